## Measure
.PHONY: account
account: env ## Where our own server's time goes, beside the lean baseline (writes bench/ACCOUNT.md; about 4 minutes)
	@PATH="$(CURDIR)/.tools/uv/bin:$$PATH" $(RUN)python bench/account.py
