## Kubernetes
.PHONY: apiserver apiserver-tools cluster cluster-tools cluster-down cluster-status images e2e-node
CLUSTER := PYTHONPATH=tools $(RUN)python -m cluster

apiserver-tools: env ## Build what the tests need: Kubernetes' programs, kwok, helm (once; about fifteen minutes)
	@$(CLUSTER) tools

apiserver: env ## Run a real API server on loopback until Ctrl-C (ARGS="--scheduler --kwok"); writes ./kubeconfig
	@$(CLUSTER) apiserver $(ARGS)

cluster-tools: env ## Build everything that the node needs (once)
	@$(CLUSTER) tools --node

cluster: env ## Bring a whole Kubernetes node up on this machine (root); writes .cluster/kubeconfig
	@$(CLUSTER) up

cluster-status: env ## Say how the node is
	@$(CLUSTER) status

cluster-down: env ## End the node and remove everything of it
	@$(CLUSTER) down

images: env ## Build the images and push them to the node's registry (BASE_IMAGE=… for another base)
	@$(CLUSTER) images

e2e-node: env ## The tests on a real node: brings one up where none is, and down again (ARGS for pytest)
	@$(RUN)pytest -m node $(ARGS)
