"""What desired objects depend on beside the ModelRuntime itself: facts of the cluster and of the release. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Dict = dict[str, Any]


@dataclass(frozen=True)
class CaBundle:
    """A ConfigMap that every namespace of a ModelRuntime has, and its key that holds certificates (PEM)."""

    config_map: str
    key: str


@dataclass(frozen=True)
class Platform:
    """The release's runtime image, what the cluster can do, and how its pods reach the world."""

    runtime_image: str
    image_volumes: bool = True  # OCI images as volumes
    pre_stop_sleep: bool = True  # lifecycle.preStop.sleep
    assigns_users: bool = False  # the cluster gives each pod a uid and refuses others (OpenShift)
    cluster_domain: str = "cluster.local"
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of fields that a ModelRuntime leaves out
    proxies: Mapping[str, str] = field(default_factory=dict)  # HTTP_PROXY, HTTPS_PROXY, NO_PROXY
    ca_bundle: CaBundle | None = None


@dataclass(frozen=True)
class Files:
    """What a source ConfigMap holds: its keys and a digest of their content, and contract.protobin where it has one.

    `content` is None where the bytes are not needed, because the pods' copy of them exists already.
    """

    keys: Mapping[str, str]  # key to sha256 of its content
    protobin: bytes | None = None
    content: Mapping[str, bytes] | None = None
