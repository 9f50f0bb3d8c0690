"""What is made of the chart: helm/README.md of its values, manifests/install.yaml, docs/api.md of the CRD, the docs' reasons.

`make render` writes them, `make chart-check` says whether they are up to date. Never here: the chart itself.
"""
