"""What a ModelRuntime wants of its pods and of the ways to them, parsed into frozen values. Pure: no clock, no cluster.

What a person may set with a pod's own words stays as it came; only what the operator itself decides upon has a field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .vocabulary import Hindered

Object = Mapping[str, Any]

DEFAULT_TARGET_CPU = 70  # percent of the pods' CPU requests
DEFAULT_METRICS_PORT = 9100
DEFAULT_HEALTH_PORT = 9101
DEFAULT_GRACE_SECONDS = 75  # preStop, the drain, the runtime's grace for calls in flight (25 s), and room


@dataclass(frozen=True)
class Autoscaling:
    """`target_cpu` is a percentage of the pods' CPU requests; None: only `metrics` decide."""

    min_replicas: int
    max_replicas: int
    target_cpu: int | None
    metrics: tuple[Object, ...] = ()
    behavior: Object = field(default_factory=dict)


@dataclass(frozen=True)
class Strategy:
    """How new pods replace old ones. `max_surge` and `max_unavailable` are None where all old ones end first."""

    type: str = "RollingUpdate"
    max_surge: int | str | None = 1
    max_unavailable: int | str | None = 0


@dataclass(frozen=True)
class Tls:
    """A Secret with certificate and key, and the port on which probes ask for health without TLS."""

    secret: str
    requires_clients: bool
    health_port: int


@dataclass(frozen=True)
class Exposure:
    """The Service: its type, and what a person labels it with."""

    type: str = "ClusterIP"
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_external(self) -> bool:
        return self.type != "ClusterIP"


@dataclass(frozen=True)
class NetworkAccess:
    """Who may reach the pods' ports, as peers of a NetworkPolicy. No peers: anyone."""

    peers: tuple[Object, ...] = ()
    metrics_peers: tuple[Object, ...] = ()


@dataclass(frozen=True)
class PodOptions:
    """What passes through to the pods, as in a pod's own spec."""

    env: tuple[Object, ...] = ()
    env_from: tuple[Object, ...] = ()
    resources: Object = field(default_factory=dict)
    init_resources: Object = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    spread: tuple[Object, ...] | None = None
    scheduling: Object = field(default_factory=dict)  # nodeSelector, tolerations, affinity, …, under a pod's own names
    security: Object = field(default_factory=dict)  # fsGroup, runAsUser, …, of the pod's security context
    volumes: tuple[Object, ...] = ()
    mounts: tuple[Object, ...] = ()
    shared_memory: str | None = None
    grace_seconds: int = DEFAULT_GRACE_SECONDS


_SCHEDULING = (
    "nodeSelector",
    "tolerations",
    "affinity",
    "imagePullSecrets",
    "serviceAccountName",
    "priorityClassName",
    "runtimeClassName",
)
# Of these, an init container that wants as much as the runtime costs no room: a pod needs the larger of both.
_SHARED_RESOURCES = ("cpu", "memory", "ephemeral-storage")


def pod_options(spec: Object) -> PodOptions:
    constraints = spec.get("topologySpreadConstraints")
    resources = spec.get("resources") or {}
    shared_memory = spec.get("sharedMemory")
    return PodOptions(
        env=tuple(spec.get("env") or ()),
        env_from=tuple(spec.get("envFrom") or ()),
        resources=resources,
        init_resources=spec.get("initResources") or _without_devices(resources),
        annotations=spec.get("podAnnotations") or {},
        labels=spec.get("podLabels") or {},
        spread=None if constraints is None else tuple(constraints),
        scheduling={key: spec[key] for key in _SCHEDULING if spec.get(key)},
        security=_security(spec),
        volumes=tuple(spec.get("volumes") or ()),
        mounts=tuple(spec.get("volumeMounts") or ()),
        shared_memory=None if shared_memory is None else str(shared_memory),
        grace_seconds=spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS),
    )


def _without_devices(resources: Object) -> Object:
    """An init container needs no GPU."""
    return {
        kind: {name: quantity for name, quantity in (resources.get(kind) or {}).items() if name in _SHARED_RESOURCES}
        for kind in ("requests", "limits")
    }


def _security(spec: Object) -> Object:
    group = {"fsGroup": spec["fsGroup"]} if spec.get("fsGroup") is not None else {}
    return {**(spec.get("securityContext") or {}), **group}


def strategy(wanted: Object | None) -> Strategy:
    kind, rolling = (wanted or {}).get("type", "RollingUpdate"), (wanted or {}).get("rollingUpdate") or {}
    if kind == "Recreate":
        return Strategy(kind, None, None)
    surge = rolling.get("maxSurge", 1)
    return Strategy(kind, surge, rolling.get("maxUnavailable", 1 if _is_none(surge) else 0))


def _is_none(number: int | str) -> bool:
    return not str(number).strip("0%")


def autoscaling(spec: Object) -> Autoscaling | None:
    """Raises Hindered where it aims at a percentage of nothing: such an autoscaler would never scale."""
    wanted = spec.get("autoscaling")
    if wanted is None:
        return None
    metrics = tuple(wanted.get("metrics") or ())
    chosen = Autoscaling(
        min_replicas=wanted.get("minReplicas", 1),
        max_replicas=wanted["maxReplicas"],
        target_cpu=wanted.get("targetCPUUtilization", None if metrics else DEFAULT_TARGET_CPU),
        metrics=metrics,
        behavior=wanted.get("behavior") or {},
    )
    resources = spec.get("resources") or {}
    if chosen.target_cpu is not None and not any(
        "cpu" in (resources.get(kind) or {}) for kind in ("requests", "limits")
    ):
        raise Hindered(
            "InvalidSpec",
            "spec.resources.requests.cpu: expected a quantity, because autoscaling aims at a percentage of it, got nothing"
            " (set it, or autoscaling.metrics instead)",
        )
    return chosen


def tls(wanted: Object | None) -> Tls | None:
    if wanted is None:
        return None
    requires_clients = wanted.get("clientAuth", "None") == "Require"
    return Tls(wanted["secretName"], requires_clients, wanted.get("healthPort", DEFAULT_HEALTH_PORT))


def exposure(wanted: Object | None) -> Exposure:
    chosen = wanted or {}
    return Exposure(chosen.get("type", "ClusterIP"), chosen.get("annotations") or {}, chosen.get("labels") or {})


def metrics_port(wanted: Object | None) -> int | None:
    """None where there are no metrics."""
    chosen = wanted or {}
    port: int = chosen.get("port", DEFAULT_METRICS_PORT)
    return port if chosen.get("enabled", True) else None


def network_access(wanted: Object | None) -> NetworkAccess | None:
    if wanted is None:
        return None
    return NetworkAccess(tuple(wanted.get("from") or ()), tuple(wanted.get("metricsFrom") or ()))
