## Protos
.PHONY: gen stubs
gen: env ## Compile runtime/proto into the descriptor sets the runtime loads
	@$(RUN)python runtime/proto/generate.py

stubs: env ## Client and server stubs for other languages in stubs/ (LANG=python|go|java|…, ERA=v0.0.5|v0|v2|v3|open_inference)
	@$(RUN)python runtime/proto/stubs.py $(if $(filter command line,$(origin LANG)),$(LANG),--list) $(if $(ERA),--era $(ERA))
