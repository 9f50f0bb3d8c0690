"""The operator: ModelRuntime in, truth out.

`handlers` (what woke us) > `reconcile` (the main path) > `cluster` (the API server) > `desired`, `status` (pure) > `spec` (pure).
Start with `kopf run -m model_runtime_operator.handlers`. Of the runtime only its contract package and errors are imported.
"""
