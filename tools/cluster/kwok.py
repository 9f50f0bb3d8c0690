"""Fake nodes, whose pods play what `stages.yaml` and their annotations say: for tests of scale and failures, without kubelets."""

from __future__ import annotations

import json
from pathlib import Path

STAGES = Path(__file__).parent / "stages.yaml"
POD_RANGE = "198.19.0.0/16"
_RESOURCES = {"cpu": "64", "memory": "512Gi", "pods": "2000"}


def flags(kubeconfig: Path, port: int) -> list[str]:
    """kwok's, for a control plane of its own."""
    return [
        f"--kubeconfig={kubeconfig}",
        f"--config={STAGES}",
        f"--server-address=127.0.0.1:{port}",
        f"--cidr={POD_RANGE}",
        "--manage-all-nodes=true",
        "--node-ip=198.18.255.1",
        "--node-lease-duration-seconds=40",
    ]


def nodes(count: int) -> str:
    """The YAML of some nodes, fake-0 and on."""
    return "\n---\n".join(json.dumps(_node(f"fake-{number}")) for number in range(count))


def _node(name: str) -> dict[str, object]:
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"allocatable": _RESOURCES, "capacity": _RESOURCES},
    }
