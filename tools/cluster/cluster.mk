## Kubernetes
.PHONY: apiserver apiserver-tools cluster cluster-tools cluster-down cluster-status images e2e
CLUSTER := PYTHONPATH=tools $(RUN)python -m cluster

apiserver-tools: env ## Build what the tests need: etcd, Kubernetes' programs, kwok, helm (once; about fifteen minutes)
	@$(CLUSTER) tools

apiserver: env ## Run a real API server on loopback until Ctrl-C (ARGS="--scheduler --kwok"); writes ./kubeconfig
	@$(CLUSTER) apiserver $(ARGS)

cluster-tools: env ## Build what the node needs besides (once; about ten minutes)
	@$(CLUSTER) tools --node

cluster: cluster-tools ## Bring a whole Kubernetes node up on this machine (root); writes .cluster/kubeconfig
	@$(CLUSTER) up

cluster-status: env ## Say how the node is
	@$(CLUSTER) status

cluster-down: env ## End the node and remove everything of it
	@$(CLUSTER) down

images: env ## Build the images and push them to the node's registry (BASE_IMAGE=… for another base)
	@$(CLUSTER) images

e2e: cluster-tools ## The tests on a real node with our images (ARGS for pytest): brought up where none is, and down again
	@$(CLUSTER) with-node $(RUN)pytest -m node $(ARGS)
