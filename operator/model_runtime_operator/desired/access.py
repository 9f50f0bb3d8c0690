"""How clients, node drains, the autoscaler and the network may reach the pods. Pure."""

from __future__ import annotations

from typing import Any

from .. import names
from ..spec import Autoscaling, ModelRuntime
from .platform import Dict
from .rendering import head


def service(runtime: ModelRuntime) -> Dict:
    """Headless, so that clients see every pod: a gRPC connection to a virtual address would stay on one."""
    port = {
        "name": names.PORT_NAME,
        "port": runtime.port,
        "targetPort": names.PORT_NAME,
        "protocol": "TCP",
        "appProtocol": "kubernetes.io/h2c",
    }
    return {
        **head("v1", "Service", runtime.name, runtime, runtime.hydrosphere),
        "spec": {"clusterIP": "None", "selector": names.selector(runtime.name), "ports": [port]},
    }


def disruption_budget(runtime: ModelRuntime) -> Dict | None:
    if runtime.max_unavailable is None:
        return None
    return {
        **head("policy/v1", "PodDisruptionBudget", runtime.name, runtime),
        "spec": {
            "maxUnavailable": runtime.max_unavailable,
            "selector": {"matchLabels": names.selector(runtime.name)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",  # a broken model must not keep a node from being drained
        },
    }


def autoscaler(runtime: ModelRuntime) -> Dict | None:
    if runtime.autoscaling is None:
        return None
    return {
        **head("autoscaling/v2", "HorizontalPodAutoscaler", runtime.name, runtime),
        "spec": {
            # The Deployment, not the ModelRuntime: it scales while the operator is away.
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": runtime.name},
            "minReplicas": runtime.autoscaling.min_replicas,
            "maxReplicas": runtime.autoscaling.max_replicas,
            "metrics": _scaling_metrics(runtime.autoscaling),
            "behavior": runtime.autoscaling.behavior,
        },
    }


def _scaling_metrics(autoscaling: Autoscaling) -> list[Any]:
    target = {"type": "Utilization", "averageUtilization": autoscaling.target_cpu}
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": target}}
    return [*([] if autoscaling.target_cpu is None else [cpu]), *autoscaling.metrics]


def network_policy(runtime: ModelRuntime) -> Dict | None:
    if runtime.network_peers is None:
        return None
    rule = {"ports": [{"port": names.PORT_NAME, "protocol": "TCP"}], "from": list(runtime.network_peers)}
    return {
        **head("networking.k8s.io/v1", "NetworkPolicy", runtime.name, runtime),
        "spec": {
            "podSelector": {"matchLabels": names.selector(runtime.name)},
            "policyTypes": ["Ingress"],
            "ingress": [rule],
        },
    }
