"""The Deployment: pods that are restricted, probed over gRPC, drained before they go, and spread over nodes. Pure."""

from __future__ import annotations

from typing import Any

from model_runtime.contract import DEFAULT_MODEL_DIR

from .. import names
from ..spec import ModelRuntime
from .model import Assembly, security, temporary
from .platform import Dict, Platform
from .rendering import head

READINESS_SERVICE = "hydrosphere.serving.runtime.PredictionService"  # serving once the model answers; "" is the process
PRE_STOP_SECONDS = 5  # endpoints propagate before SIGTERM; measured: with none, 9 of 318 new connections are refused
DRAIN_LIMIT_SECONDS = 40  # clients leave when their connection's age (30 s, give or take a tenth) is over
TERMINATION_GRACE_SECONDS = 75  # preStop, the drain, the runtime's grace for calls in flight (25 s), and room
HISTORY_LIMIT = 3  # ReplicaSets kept for `kubectl rollout undo`; each keeps its contract alive


def deployment(runtime: ModelRuntime, platform: Platform, assembly: Assembly) -> Dict:
    return {
        **head("apps/v1", "Deployment", runtime.name, runtime, runtime.hydrosphere),
        "spec": {
            "replicas": runtime.replicas,  # absent under an autoscaler: then they are not ours
            "selector": {"matchLabels": names.selector(runtime.name)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "revisionHistoryLimit": HISTORY_LIMIT,
            "progressDeadlineSeconds": runtime.progress_deadline_seconds,
            "paused": runtime.paused or None,
            "template": _template(runtime, platform, assembly),
        },
    }


def _template(runtime: ModelRuntime, platform: Platform, assembly: Assembly) -> Dict:
    labels = {**runtime.pod.labels, **names.labels(runtime.name), **runtime.hydrosphere}
    return {
        "metadata": {"labels": labels, "annotations": runtime.pod.annotations},
        "spec": {
            "initContainers": assembly.steps,
            "containers": [_container(runtime, platform, assembly)],
            "volumes": [*assembly.volumes, {"name": "tmp", "emptyDir": {}}],
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": TERMINATION_GRACE_SECONDS,
            "topologySpreadConstraints": _spread(runtime),
            **runtime.pod.scheduling,
        },
    }


def _container(runtime: ModelRuntime, platform: Platform, assembly: Assembly) -> Dict:
    return {
        "name": names.CONTAINER,
        "image": runtime.image or platform.runtime_image,
        "imagePullPolicy": runtime.image_pull_policy,
        "env": _environment(runtime),
        "ports": [{"name": names.PORT_NAME, "containerPort": runtime.port, "protocol": "TCP"}],
        "startupProbe": _probe(runtime, period=2, failures=60),  # "" serves as soon as the port is bound
        "livenessProbe": _probe(runtime, period=10, failures=3),
        "readinessProbe": _probe(runtime, READINESS_SERVICE, period=2, failures=2),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}} if platform.pre_stop_sleep else None,
        "resources": runtime.pod.resources,
        "securityContext": security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [temporary(), *assembly.mounts],
    }


def _environment(runtime: ModelRuntime) -> list[Any]:
    ours = {
        "APP_PORT": str(runtime.port),
        "MODEL_DIR": DEFAULT_MODEL_DIR,
        "MODEL_PROCESSES": str(runtime.processes),
        "BATCH_MAX_SIZE": str(runtime.batch_max_size),
        "DRAIN_LIMIT_SECONDS": str(DRAIN_LIMIT_SECONDS),
        "HOME": "/tmp",  # any uid, and the root is read-only
        **({} if runtime.warmup.enabled else {"WARMUP": "false"}),
    }
    theirs = {each["name"] for each in runtime.pod.env}
    return [{"name": name, "value": value} for name, value in ours.items() if name not in theirs] + list(
        runtime.pod.env
    )


def _probe(runtime: ModelRuntime, service: str | None = None, *, period: int, failures: int) -> Dict:
    return {
        "grpc": {"port": runtime.port, "service": service},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _spread(runtime: ModelRuntime) -> list[Dict]:
    selector = {"matchLabels": names.selector(runtime.name)}
    default = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    wanted = [default] if runtime.pod.spread is None else runtime.pod.spread
    return [{"labelSelector": selector, **constraint} for constraint in wanted]
