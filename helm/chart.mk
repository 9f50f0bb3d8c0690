## Chart
.PHONY: render chart-check
render: env ## Write what is made of the chart: its README, manifests/install.yaml, docs/api.md, the reasons in docs/kubernetes.md
	@PYTHONPATH=tools $(RUN)python -m chart $(ARGS)

generated: chart-check
chart-check: env ## Check that what is made of the chart is up to date
	@PYTHONPATH=tools $(RUN)python -m chart --check

.PHONY: soak
soak: cluster images ## The long loss test: a million calls over a hundred rollouts (SOAK_CALLS, SOAK_ROLLOUTS, SOAK_RATE)
	@SOAK_CALLS=$${SOAK_CALLS:-1000000} SOAK_ROLLOUTS=$${SOAK_ROLLOUTS:-100} $(RUN)pytest tests/e2e/test_soak.py -m node -s $(ARGS)
