"""The Deployment: pods that are restricted, probed over gRPC, drained before they go, and spread over nodes. Pure."""

from __future__ import annotations

from .. import names
from ..spec import ModelRuntime
from . import environment
from .model import Assembly, security
from .platform import Dict, Platform
from .rendering import head

READINESS_SERVICE = "hydrosphere.serving.runtime.PredictionService"  # serving once the model answers; "" is the process
FROZEN_SECONDS = 10  # what does not answer its probe drains nobody: it is killed soon
HISTORY_LIMIT = 3  # ReplicaSets kept for `kubectl rollout undo`; each keeps its contract alive


def deployment(runtime: ModelRuntime, platform: Platform, assembly: Assembly) -> Dict:
    return {
        **head("apps/v1", "Deployment", runtime.name, runtime, runtime.hydrosphere),
        "spec": {
            "replicas": runtime.replicas,  # absent under an autoscaler: then they are not ours
            "selector": {"matchLabels": names.selector(runtime.name)},
            "strategy": _strategy(runtime),
            "revisionHistoryLimit": HISTORY_LIMIT,
            "progressDeadlineSeconds": runtime.progress_deadline_seconds,
            "paused": runtime.paused or None,
            "template": _template(runtime, platform, assembly),
        },
    }


def _strategy(runtime: ModelRuntime) -> Dict:
    wanted = runtime.strategy
    rolling = {"maxUnavailable": wanted.max_unavailable, "maxSurge": wanted.max_surge}
    return {"type": wanted.type, "rollingUpdate": rolling if wanted.max_surge is not None else None}


def _template(runtime: ModelRuntime, platform: Platform, assembly: Assembly) -> Dict:
    labels = {**runtime.pod.labels, **names.labels(runtime.name), **runtime.hydrosphere}
    return {
        "metadata": {"labels": labels, "annotations": runtime.pod.annotations},
        "spec": {
            "initContainers": assembly.steps,
            "containers": [_container(runtime, platform, assembly)],
            "volumes": [*assembly.volumes, *environment.volumes(runtime, platform)],
            "securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
                **runtime.pod.security,
            },
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": runtime.pod.grace_seconds,
            "topologySpreadConstraints": _spread(runtime),
            **runtime.pod.scheduling,
        },
    }


def _container(runtime: ModelRuntime, platform: Platform, assembly: Assembly) -> Dict:
    return {
        "name": names.CONTAINER,
        "image": runtime.image or platform.runtime_image,
        "imagePullPolicy": runtime.image_pull_policy,
        "env": environment.variables(runtime, platform),
        "envFrom": list(runtime.pod.env_from),
        "ports": _ports(runtime),
        "startupProbe": _killing(runtime, period=2, failures=60),  # "" serves as soon as the port is bound
        "livenessProbe": _killing(runtime, period=10, failures=3),
        "readinessProbe": _probe(runtime, READINESS_SERVICE, period=2, failures=2),
        "lifecycle": _lifecycle(runtime) if platform.pre_stop_sleep else None,
        "resources": runtime.pod.resources,
        "securityContext": security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [*environment.mounts(runtime, platform), *assembly.mounts],
    }


def _ports(runtime: ModelRuntime) -> list[Dict]:
    ports = {
        names.PORT_NAME: runtime.port,
        names.METRICS_PORT_NAME: runtime.metrics_port,
        names.HEALTH_PORT_NAME: runtime.tls.health_port if runtime.tls else None,
    }
    return [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports.items() if port]


def _lifecycle(runtime: ModelRuntime) -> Dict:
    return {"preStop": {"sleep": {"seconds": min(environment.PRE_STOP_SECONDS, runtime.pod.grace_seconds)}}}


def _probe(runtime: ModelRuntime, service: str | None = None, *, period: int, failures: int) -> Dict:
    """Asks over gRPC. With TLS on a port of its own, because the kubelet asks in plaintext only."""
    return {
        "grpc": {"port": runtime.tls.health_port if runtime.tls else runtime.port, "service": service},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _killing(runtime: ModelRuntime, *, period: int, failures: int) -> Dict:
    """A probe whose failure ends the container."""
    seconds = min(FROZEN_SECONDS, runtime.pod.grace_seconds)
    return {**_probe(runtime, period=period, failures=failures), "terminationGracePeriodSeconds": seconds}


def _spread(runtime: ModelRuntime) -> list[Dict]:
    selector = {"matchLabels": names.selector(runtime.name)}
    default = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    wanted = [default] if runtime.pod.spread is None else runtime.pod.spread
    return [{"labelSelector": selector, **constraint} for constraint in wanted]
