"""Where a node keeps its things and what its addresses are. Only names: nothing here reads or writes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

NODE = "node"
CONTEXT = "model-runtime-dev"  # the kubeconfig's; the tests' allow-list has it
# Benchmarking addresses (RFC 2544), which no network that a developer sits in uses.
POD_RANGE = "198.19.0.0/16"
NODE_ADDRESS = "198.19.0.1"  # of the bridge: the pods' gateway
FIRST_POD_ADDRESS = "198.19.1.1"
SERVICE_RANGE = "198.18.0.0/16"
DNS_ADDRESS = "198.18.0.10"
API_PORT = 6443  # these two inside the node; the host's are random
REGISTRY_PORT = 5000
REGISTRY = f"localhost:{REGISTRY_PORT}"  # the registry's name in a pod's image
PAUSE_IMAGE = "localhost/pause:1"
COREDNS_IMAGE = "localhost/coredns:1"
VOLUMES = Path("/tmp/hostpath_pv")  # kube-controller-manager's hostPath provisioner knows no other folder
RUN = Path("/run")  # a tmpfs inside the node
REGISTRIES = RUN / "registries"  # how containerd reaches each


@dataclass(frozen=True)
class Layout:
    """The files of one node, all below one folder."""

    folder: Path

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def record(self) -> Path:
        """What runs, as JSON: written when the node is up, removed last."""
        return self.folder / "node.json"

    @property
    def log(self) -> Path:
        """One log per component, and below pods/ one per container."""
        return self.folder / "log"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def archives(self) -> Path:
        """OCI archives that containerd is given at the start."""
        return self.state / "archives"

    @property
    def programs(self) -> Path:
        """Links to every program, as one folder that can be on PATH."""
        return self.state / "programs"

    @property
    def cgroup(self) -> str:
        """The name of the node's control groups, its own for each folder."""
        return f"model-runtime-{hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]}"
