"""What `operator_scale.py` measures with: the API server and its fake nodes, a fleet of ModelRuntimes, the operator's process.

Knows the operator only as its users do: a program with an environment, /readyz, /metrics. What is measured is not decided here.
"""
