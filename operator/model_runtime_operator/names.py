"""The names that objects, labels and annotations of ours carry. Constants and pure functions of names; nothing else."""

from __future__ import annotations

import hashlib

GROUP = "runtime.hydrosphere.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "ModelRuntime"
PLURAL = "modelruntimes"

FIELD_MANAGER = "model-runtime-operator"
HANDOVER_MANAGER = (
    f"{FIELD_MANAGER}-handover"  # owns `replicas` once, so that nobody drops it while an autoscaler takes over
)

LABEL = f"{GROUP}/modelruntime"  # on everything of ours, pods included: its value is the ModelRuntime's name
APPLIED = f"{GROUP}/applied"  # annotation: the hash of the object as we last applied it
FILES_DIGEST = f"{GROUP}/files"  # annotation of a source ConfigMap's copy: the digest of what it holds

DEFAULTS = f"{GROUP}/defaults"  # annotation of a Deployment: the fleet defaults that its pods were rolled out with
OPERATOR = f"{GROUP}/operator"  # annotation of a Deployment: the Lease of the operator that wrote it
HOLDER_POD = f"{GROUP}/holder-pod"  # annotation of our Lease: the uid of the pod that holds it, if it is a pod

CONTAINER = "runtime"
PORT_NAME = "grpc"
METRICS_PORT_NAME = "metrics"
HEALTH_PORT_NAME = "health"


def labels(name: str) -> dict[str, str]:
    """What every object of the ModelRuntime `name` is labelled with. No version: an upgrade moves no pod."""
    return {
        "app.kubernetes.io/name": "model-runtime",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        LABEL: name,
    }


def selector(name: str) -> dict[str, str]:
    return {LABEL: name}


def selector_text(name: str) -> str:
    return f"{LABEL}={name}"


def hashed(name: str, role: str, content: bytes) -> str:
    """`digits-contract-3f9a1c20b4`: an object whose name changes with its content."""
    return f"{name}-{role}-{hashlib.sha256(content).hexdigest()[:10]}"


def external(name: str) -> str:
    """The Service through which clients outside the cluster reach the pods."""
    return f"{name}-external"


def endpoint(name: str, namespace: str, port: int, domain: str) -> str:
    return f"{name}.{namespace}.svc.{domain}:{port}"
