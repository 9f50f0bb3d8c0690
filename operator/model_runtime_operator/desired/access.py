"""How clients, node drains, the autoscaler and the network may reach the pods. Pure."""

from __future__ import annotations

from typing import Any

from .. import names
from ..pods import Autoscaling, Exposure, Object
from ..spec import ModelRuntime
from .platform import Dict
from .rendering import head


def service(runtime: ModelRuntime) -> Dict:
    """Headless, so that clients see every pod: a gRPC connection to a virtual address would stay on one."""
    return _service(runtime, runtime.name, Exposure() if runtime.service.is_external else runtime.service)


def external_service(runtime: ModelRuntime) -> Dict | None:
    """A second Service, where clients outside the cluster are to come in: the first one stays headless for all others."""
    if not runtime.service.is_external:
        return None
    return _service(runtime, names.external(runtime.name), runtime.service)


def _service(runtime: ModelRuntime, name: str, exposure: Exposure) -> Dict:
    labels = {**exposure.labels, **runtime.hydrosphere}
    rendered = head("v1", "Service", name, runtime, labels, exposure.annotations)
    address = {"type": exposure.type} if exposure.is_external else {"clusterIP": "None"}
    return {**rendered, "spec": {**address, "selector": names.selector(runtime.name), "ports": [_port(runtime)]}}


def _port(runtime: ModelRuntime) -> Dict:
    return {
        "name": names.PORT_NAME,
        "port": runtime.port,
        "targetPort": names.PORT_NAME,
        "protocol": "TCP",
        "appProtocol": "https" if runtime.tls else "kubernetes.io/h2c",
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
    """Opens the runtime's port and that of its metrics. The kubelet's probes need no rule: they come from the pod's own node."""
    if runtime.network is None:
        return None
    rules = [_ingress(names.PORT_NAME, runtime.network.peers)]
    if runtime.metrics_port is not None:
        rules.append(_ingress(names.METRICS_PORT_NAME, runtime.network.metrics_peers))
    return {
        **head("networking.k8s.io/v1", "NetworkPolicy", runtime.name, runtime),
        "spec": {
            "podSelector": {"matchLabels": names.selector(runtime.name)},
            "policyTypes": ["Ingress"],
            "ingress": rules,
        },
    }


def _ingress(port: str, peers: tuple[Object, ...]) -> Dict:
    return {"ports": [{"port": port, "protocol": "TCP"}], "from": list(peers)}
