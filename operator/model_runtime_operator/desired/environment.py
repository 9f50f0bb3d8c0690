"""What a pod's containers have besides the model: variables, certificates, shared memory, a person's own volumes. Pure."""

from __future__ import annotations

from typing import Any

from model_runtime.contract import DEFAULT_MODEL_DIR

from ..spec import ModelRuntime
from .platform import Dict, Platform

TLS_PATH = "/etc/model-runtime/tls"
CA_PATH = "/etc/model-runtime/ca"
CA_FILE = "ca.crt"

PRE_STOP_SECONDS = 5  # endpoints propagate before SIGTERM; measured: with none, 9 of 318 new connections are refused
DRAIN_SECONDS = 40  # clients leave when their connection's age (30 s, give or take a tenth) is over
CALLS_SECONDS = 25  # for calls in flight
ROOM_SECONDS = 5  # for the end of the processes themselves

# Of a person's variables, what downloads and installations need too: they reach the init containers. Secrets do not.
_STEP_PREFIXES = ("PIP_", "UV_", "SSL_CERT_", "FETCH_", "INSTALL_")
_STEP_NAMES = frozenset(
    name for upper in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY") for name in (upper, upper.lower())
) | frozenset(
    {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "AWS_REGION", "AWS_ENDPOINT_URL_STS", "MODEL_PYTHON"}
)
_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "AWS_CA_BUNDLE")


# Variables ------------------------------------------------------------------------------------------------------------


def variables(runtime: ModelRuntime, platform: Platform) -> list[Any]:
    """Those of the runtime container. What a person sets wins over what only helps."""
    ours = {
        "APP_PORT": str(runtime.port),
        "MODEL_DIR": DEFAULT_MODEL_DIR,
        "MODEL_PROCESSES": str(runtime.processes),
        **({} if runtime.batch_max_size is None else {"BATCH_MAX_SIZE": str(runtime.batch_max_size)}),
        "METRICS_PORT": str(runtime.metrics_port or 0),
        **_stopping(runtime.pod.grace_seconds),
        "HOME": "/tmp",  # any uid, and the root is read-only
        **({} if runtime.warmup.enabled else {"WARMUP": "false"}),
        **_tls(runtime),
        **_network(platform),
    }
    return _merged(ours, list(runtime.pod.env))


def step_variables(runtime: ModelRuntime, platform: Platform) -> list[Any]:
    """Those of an init container that runs the runtime's image."""
    return _merged({"HOME": "/tmp", **_network(platform)}, [each for each in runtime.pod.env if _is_for_steps(each)])


def _merged(ours: dict[str, str], theirs: list[Any]) -> list[Any]:
    set_by_them = {each["name"].upper() for each in theirs}  # HTTPS_PROXY and https_proxy are one setting
    kept = [{"name": name, "value": value} for name, value in ours.items() if name.upper() not in set_by_them]
    return [*kept, *theirs]


def _is_for_steps(variable: Any) -> bool:
    return variable["name"] in _STEP_NAMES or variable["name"].startswith(_STEP_PREFIXES)


def _stopping(grace_seconds: int) -> dict[str, str]:
    """How a pod's grace period is spent: long ones are for calls that take long, short ones leave clients less time."""
    after_drain = grace_seconds - PRE_STOP_SECONDS - ROOM_SECONDS - CALLS_SECONDS
    drain = max(0, min(DRAIN_SECONDS, after_drain))
    calls = max(0, grace_seconds - PRE_STOP_SECONDS - ROOM_SECONDS - drain)
    return {"DRAIN_LIMIT_SECONDS": str(drain), "GRACE_SECONDS": str(calls)}


def _tls(runtime: ModelRuntime) -> dict[str, str]:
    if runtime.tls is None:
        return {}
    return {
        "HEALTH_PORT": str(runtime.tls.health_port),
        "TLS_CERT_FILE": f"{TLS_PATH}/tls.crt",
        "TLS_KEY_FILE": f"{TLS_PATH}/tls.key",
        **({"TLS_CLIENT_CA_FILE": f"{TLS_PATH}/ca.crt"} if runtime.tls.requires_clients else {}),
    }


def _network(platform: Platform) -> dict[str, str]:
    """The proxies under both spellings, because programs differ in which they read, and the certificates of a CA."""
    proxies = {spelling: value for name, value in platform.proxies.items() for spelling in (name, name.lower())}
    trusted = dict.fromkeys(_CA_VARIABLES, f"{CA_PATH}/{CA_FILE}") if platform.ca_bundle else {}
    return {**proxies, **trusted}


# Volumes --------------------------------------------------------------------------------------------------------------


def volumes(runtime: ModelRuntime, platform: Platform) -> list[Any]:
    return [
        {"name": "tmp", "emptyDir": {}},
        *_tls_volume(runtime),
        *_ca_volume(platform),
        *_shared_memory(runtime),
        *runtime.pod.volumes,
    ]


def _tls_volume(runtime: ModelRuntime) -> list[Dict]:
    """Key by key, so that the kubelet names the one that the Secret lacks."""
    if runtime.tls is None:
        return []
    keys = ["tls.crt", "tls.key", *(["ca.crt"] if runtime.tls.requires_clients else [])]
    items = [{"key": key, "path": key} for key in keys]
    return [{"name": "tls", "secret": {"secretName": runtime.tls.secret, "items": items}}]


def _ca_volume(platform: Platform) -> list[Dict]:
    if platform.ca_bundle is None:
        return []
    items = [{"key": platform.ca_bundle.key, "path": CA_FILE}]
    return [{"name": "ca", "configMap": {"name": platform.ca_bundle.config_map, "items": items}}]


def _shared_memory(runtime: ModelRuntime) -> list[Dict]:
    if runtime.pod.shared_memory is None:
        return []
    return [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": runtime.pod.shared_memory}}]


def mounts(runtime: ModelRuntime, platform: Platform) -> list[Any]:
    """What the runtime container sees besides the model."""
    tls = [{"name": "tls", "mountPath": TLS_PATH, "readOnly": True}] if runtime.tls else []
    shared = [{"name": "shm", "mountPath": "/dev/shm"}] if runtime.pod.shared_memory is not None else []
    return [*step_mounts(runtime, platform), *tls, *shared]


def step_mounts(runtime: ModelRuntime, platform: Platform) -> list[Any]:
    """What an init container that runs the runtime's image sees: with a person's own volumes, where certificates may be."""
    trusted = [{"name": "ca", "mountPath": CA_PATH, "readOnly": True}] if platform.ca_bundle else []
    return [{"name": "tmp", "mountPath": "/tmp"}, *trusted, *runtime.pod.mounts]
