"""A real Kubernetes for development and tests: etcd and the Kubernetes programs, built from pinned Go modules, on loopback.

`binaries` finds or builds the programs (with the Go of `toolchain`), `controlplane` runs etcd and the API server (with
controller-manager, scheduler and kwok where asked). Never imported by the product's packages. README.md has the map.
"""
