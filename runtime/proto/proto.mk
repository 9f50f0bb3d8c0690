## Protos
.PHONY: gen stubs
gen: env ## Compile runtime/proto into the descriptor sets the runtime loads
	@$(RUN)python runtime/proto/generate.py

stubs: env ## Client and server stubs in stubs/ (LANG=python|go|java|typescript, ERA=v0.0.5|v0|v2|v3|open_inference)
	@$(RUN)python runtime/proto/stubs.py $(if $(filter command line,$(origin LANG)),$(LANG),--list) $(if $(ERA),--era $(ERA)) $(if $(GO_PACKAGE),--go-package $(GO_PACKAGE))
