## Operator
.PHONY: operator-stories operator-scale
OPERATOR_TESTS := $(RUN)pytest tests/operator

operator-stories: env apiserver-tools ## Random stories of edits, kills and faults against a real API server (STORIES=1,2,3 or how many: COUNT=20)
	@STORIES=$${STORIES:-$$(seq -s, 100 $$((99 + $${COUNT:-20})))} $(OPERATOR_TESTS)/test_properties.py -q -s $(ARGS)

operator-scale: env apiserver-tools ## A thousand ModelRuntimes at once, and two hundred that must stay silent for five minutes (about eight minutes)
	@$(OPERATOR_TESTS)/test_scale.py -m slow -q $(ARGS)
