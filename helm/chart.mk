## Chart
.PHONY: render chart-check
render: env ## Write what is made of the chart: its README, manifests/install.yaml, docs/api.md, the reasons in docs/kubernetes.md
	@PYTHONPATH=tools $(RUN)python -m chart $(ARGS)

generated: chart-check
chart-check: env ## Check that what is made of the chart is up to date
	@PYTHONPATH=tools $(RUN)python -m chart --check
