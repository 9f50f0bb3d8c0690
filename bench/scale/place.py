"""Where the fleet lives: an API server with our CRD, fake nodes, and the operator's account with just its rights.

The operator's calls are counted by the API server itself: a FlowSchema of their own keeps them apart from everybody's.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import yaml

from cluster.controlplane import ControlPlane

from . import fleet
from .api import Api

ROOT = Path(__file__).parent.parent.parent
CRD = ROOT / "helm" / "files" / "crd.yaml"
RULES = ROOT / "helm" / "files" / "rbac-rules.yaml"
OPERATOR, HOME = "operator", "default"
READY_SECONDS = 60.0
FLOW = "bench-operator"
PODS_OF_A_NODE = 500


def prepare(plane: ControlPlane, namespaces: list[str], pods: int) -> Path:
    """Makes everything but ModelRuntimes and the operator; gives the operator's kubeconfig."""
    plane.kubectl("apply", "--server-side", "-f", str(CRD))
    _await(plane, f"{fleet.PLACE}/modelruntimes?limit=1")
    nodes = [_node(f"node-{number}") for number in range(max(1, pods * 2 // PODS_OF_A_NODE + 1))]
    spaces = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in namespaces if name != HOME
    ]
    plane.kubectl("create", "-f", "-", text=_list([*nodes, *spaces, *_account()]))
    return _kubeconfig(plane)


def _await(plane: ControlPlane, path: str) -> None:
    end = time.monotonic() + READY_SECONDS
    while True:
        try:
            plane.get(path)
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


async def operator_calls(api: Api) -> int:
    """How many calls of the operator the API server has let through, the beginnings of watches included."""
    pattern = rf'^apiserver_flowcontrol_dispatched_requests_total{{flow_schema="{FLOW}"[^}}]*}} (\S+)$'
    return int(sum(float(value) for value in re.findall(pattern, await api.text("/metrics"), re.MULTILINE)))


def _account() -> list[dict[str, Any]]:
    name = {"name": OPERATOR}
    subject = {"kind": "ServiceAccount", "name": OPERATOR, "namespace": HOME}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": OPERATOR}
    rbac = "rbac.authorization.k8s.io/v1"
    leases = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get", "update"]}
    rules = [*yaml.safe_load(RULES.read_text()), leases]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {**name, "namespace": HOME}},
        {"apiVersion": rbac, "kind": "ClusterRole", "metadata": name, "rules": rules},
        {
            "apiVersion": rbac,
            "kind": "ClusterRoleBinding",
            "metadata": name,
            "roleRef": role,
            "subjects": [subject],
        },
        _flow(),
    ]


def _flow() -> dict[str, Any]:
    """As every service account's calls are treated (workload-low), but counted by themselves."""
    account = {"kind": "ServiceAccount", "serviceAccount": {"name": OPERATOR, "namespace": HOME}}
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
    return {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": FLOW},
        "spec": {
            "matchingPrecedence": 1000,
            "priorityLevelConfiguration": {"name": "workload-low"},
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{"subjects": [account], "resourceRules": [everything]}],
        },
    }


def _node(name: str) -> dict[str, Any]:
    size = {"cpu": "1000", "memory": "10Ti", "ephemeral-storage": "10Ti", "pods": str(PODS_OF_A_NODE)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
        },
        "status": {"allocatable": size, "capacity": size},
    }


def _list(items: list[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def _kubeconfig(plane: ControlPlane) -> Path:
    token = plane.kubectl("create", "token", OPERATOR, "--namespace", HOME, "--duration=8h").strip()
    config = json.loads(plane.kubeconfig.read_text())
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    file = plane.folder / "operator.kubeconfig"
    file.touch(mode=0o600)
    file.write_text(json.dumps(config))
    return file
