"""The operator's settings: the environment, read once and checked here and nowhere else."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import defaults


class InvalidSetting(Exception):
    """A variable that cannot be used, with what was expected and what came."""


@dataclass(frozen=True)
class Settings:
    """Everything that can be set about an operator. Times are in seconds."""

    runtime_image: str = ""  # empty: as the pod template says
    runtime_template: str = ""  # a PodTemplate next to the Lease, whose container `runtime` has the image
    namespaces: tuple[str, ...] = ()  # none: all
    cluster_domain: str = "cluster.local"
    defaults: Mapping[str, Any] = field(default_factory=dict)  # spec fields of ModelRuntimes that leave them out
    image_volumes: bool | None = None  # None: as the API server's version says
    assigns_users: bool | None = None  # whether the cluster gives pods their uid; None: as its API says
    proxies: Mapping[str, str] = field(default_factory=dict)  # of the ModelRuntimes' pods: HTTP_PROXY, …
    ca_bundle: tuple[str, str] | None = None  # name and key of a ConfigMap in the ModelRuntimes' namespaces
    kubeconfig: Path | None = None  # None: the pod's service account
    api_server: str = ""  # its address as the kubelet gives it to pods, which needs no DNS
    leader_election: bool = True
    lease_namespace: str = "default"
    lease_name: str = "model-runtime-operator"
    identity: str = "model-runtime-operator"
    pod_uid: str = ""  # if it is a pod
    workers: int = 8
    resync_seconds: float = 600.0
    http_port: int = 8080
    log_level: str = "info"
    log_format: str = "text"


def from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings that the environment asks for. Raises InvalidSetting."""
    variables = {key: value.strip() for key, value in (os.environ if environment is None else environment).items()}
    given = {name: text for name, text in variables.items() if text}
    if "RUNTIME_IMAGE" not in given and "RUNTIME_TEMPLATE" not in given:
        raise InvalidSetting("RUNTIME_IMAGE: expected the image of the runtime, got nothing")
    return Settings(
        runtime_image=given.get("RUNTIME_IMAGE", ""),
        runtime_template=given.get("RUNTIME_TEMPLATE", ""),
        namespaces=tuple(name.strip() for name in given.get("WATCH_NAMESPACES", "").split(",") if name.strip()),
        cluster_domain=given.get("CLUSTER_DOMAIN", "cluster.local"),
        defaults=_defaults(given),
        image_volumes=_switch_or_auto(given, "IMAGE_VOLUMES"),
        assigns_users=_switch_or_auto(given, "ASSIGNED_USERS"),
        proxies=_proxies(given),
        ca_bundle=_ca_bundle(given),
        kubeconfig=Path(given["KUBECONFIG"]) if "KUBECONFIG" in given else _personal_kubeconfig(given),
        api_server=_api_server(given),
        leader_election=_switch(given, "LEADER_ELECTION", True),
        lease_namespace=given.get("POD_NAMESPACE", "default"),
        lease_name=given.get("LEASE_NAME", "model-runtime-operator"),
        identity=given.get("POD_NAME", f"{socket.gethostname()}-{os.getpid()}"),
        pod_uid=given.get("POD_UID", ""),
        workers=int(_number(given, "WORKERS", 8, 1, 256)),
        resync_seconds=_number(given, "RESYNC_SECONDS", 600, 1, 86400),
        http_port=int(_number(given, "HTTP_PORT", 8080, 0, 65535)),
        log_level=_one_of(given, "LOG_LEVEL", "info", ("debug", "info", "warning", "error")),
        log_format=_one_of(given, "LOG_FORMAT", "text", ("text", "json")),
    )


def _personal_kubeconfig(given: Mapping[str, str]) -> Path | None:
    """~/.kube/config, for a person who tries the operator; in a pod there is none."""
    file = Path(given.get("HOME", "/")) / ".kube" / "config"
    return file if "KUBERNETES_SERVICE_HOST" not in given and file.is_file() else None


def _api_server(given: Mapping[str, str]) -> str:
    host, port = given.get("KUBERNETES_SERVICE_HOST", ""), given.get("KUBERNETES_SERVICE_PORT", "443")
    return f"https://{f'[{host}]' if ':' in host else host}:{port}" if host else ""


def _defaults(given: Mapping[str, str]) -> Mapping[str, Any]:
    try:
        return defaults.read(given.get("MODEL_RUNTIME_DEFAULTS", ""))
    except defaults.InvalidDefaults as error:
        raise InvalidSetting(f"MODEL_RUNTIME_DEFAULTS: {error}") from None


_PROXIES = {"RUNTIME_HTTP_PROXY": "HTTP_PROXY", "RUNTIME_HTTPS_PROXY": "HTTPS_PROXY"}


def _proxies(given: Mapping[str, str]) -> dict[str, str]:
    """The proxies of the ModelRuntimes' pods. What lies within the cluster is never asked for through one."""
    found = {variable: given[name] for name, variable in _PROXIES.items() if name in given}
    for name, variable in _PROXIES.items():
        if not found.get(variable, "http://").startswith(("http://", "https://")):
            raise InvalidSetting(f"{name}: expected an address such as http://proxy:3128, got {given[name]!r}")
    if not found:
        return {}
    domain = given.get("CLUSTER_DOMAIN", "cluster.local")
    around = [given.get("RUNTIME_NO_PROXY", ""), "localhost", "127.0.0.1", "::1", ".svc", f".{domain}"]
    return {**found, "NO_PROXY": ",".join(each for each in around if each)}


def _ca_bundle(given: Mapping[str, str]) -> tuple[str, str] | None:
    """`NAME` or `NAME/KEY` of a ConfigMap."""
    if "RUNTIME_CA_BUNDLE" not in given:
        return None
    name, _, key = given["RUNTIME_CA_BUNDLE"].partition("/")
    if not name or "/" in key:
        raise InvalidSetting(
            f"RUNTIME_CA_BUNDLE: expected CONFIGMAP or CONFIGMAP/KEY, got {given['RUNTIME_CA_BUNDLE']!r}"
        )
    return name, key or "ca.crt"


def _switch_or_auto(given: Mapping[str, str], name: str) -> bool | None:
    choice = _one_of(given, name, "auto", ("auto", "true", "false"))
    return None if choice == "auto" else choice == "true"


def _switch(given: Mapping[str, str], name: str, default: bool) -> bool:
    return _one_of(given, name, str(default).lower(), ("true", "false")) == "true"


def _one_of(given: Mapping[str, str], name: str, default: str, choices: tuple[str, ...]) -> str:
    value = given.get(name, default).lower()
    if value not in choices:
        raise InvalidSetting(f"{name}: expected {' or '.join(choices)}, got {given[name]!r}")
    return value


def _number(given: Mapping[str, str], name: str, default: float, low: float, high: float) -> float:
    try:
        value = float(given.get(name, default))
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise InvalidSetting(f"{name}: expected a number from {low:g} to {high:g}, got {given[name]!r}")
    return value
