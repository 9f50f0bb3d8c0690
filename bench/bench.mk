## Measure
.PHONY: account bench bench-quick bench-scale
account: env ## Where our own server's time goes, beside the lean baseline (writes bench/ACCOUNT.md; about 4 minutes)
	@PATH="$(CURDIR)/.tools/uv/bin:$$PATH" $(RUN)python bench/account.py

bench: env ## Our server beside its peers, recorded in bench/RESULTS.md (about 45 minutes; ARGS="--rounds 1")
	@PATH="$(CURDIR)/.tools/uv/bin:$$PATH" PYTHONPATH=bench:tests/support:tools $(RUN)python -m suite --record --steady 600 $(ARGS)

bench-quick: env ## The nearest peers and three kinds of work, once, printed (under 5 minutes)
	@PATH="$(CURDIR)/.tools/uv/bin:$$PATH" PYTHONPATH=bench:tests/support:tools $(RUN)python -m suite --quick $(ARGS)

bench-scale: env apiserver-tools ## The operator with 100, 1,000 and 10,000 ModelRuntimes, recorded in bench/OPERATOR.md (ARGS="100 1000")
	@PYTHONPATH=tools $(RUN)python bench/operator_scale.py --record $(or $(ARGS),100 1000 10000)
