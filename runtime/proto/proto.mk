## Protos
.PHONY: gen generated stubs
gen: env ## Compile runtime/proto into the descriptor sets the runtime loads
	@$(RUN)python runtime/proto/generate.py

generated: env ## Check that what is generated is up to date
	@$(RUN)python runtime/proto/generate.py --check
