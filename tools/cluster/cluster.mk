## Kubernetes
.PHONY: apiserver apiserver-tools
apiserver-tools: env ## Build etcd and the Kubernetes programs that tests need (once; about ten minutes)
	@PYTHONPATH=tools $(RUN)python -m cluster tools

apiserver: env ## Run a real API server on loopback until Ctrl-C (ARGS="--scheduler --kwok"); writes ./kubeconfig
	@PYTHONPATH=tools $(RUN)python -m cluster apiserver $(ARGS)
