## Fuzz
.PHONY: fuzz
TIME ?= 300
fuzz: env ## Fuzz codec, contract and Predict bytes for 5 minutes (TIME=seconds TARGET=name SEED=n REPLAY=file)
	@$(RUN)python tests/fuzz/run.py --time $(TIME) $(if $(TARGET),--target $(TARGET)) $(if $(SEED),--seed $(SEED)) $(if $(REPLAY),--replay $(REPLAY))
