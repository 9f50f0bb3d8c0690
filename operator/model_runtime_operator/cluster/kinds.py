"""The kinds of objects that the operator reads or writes: where the API server keeps them, and what of them the caches keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .. import names

Object = dict[str, Any]
Key = tuple[str, str]  # namespace, name


def _whole(item: Object) -> Object:
    item["metadata"].pop("managedFields", None)
    return item


def _with_owned_replicas(item: Object) -> Object:
    """A Deployment, and under `ownsReplicas` whether spec.replicas is ours: its field managers are not kept."""
    managers = item["metadata"].pop("managedFields", None) or ()
    item["ownsReplicas"] = any(_owns_replicas(each) for each in managers)
    return item


def _owns_replicas(manager: Mapping[str, Any]) -> bool:
    owned = ((manager.get("fieldsV1") or {}).get("f:spec") or {}).keys()
    return (
        manager.get("manager") == names.FIELD_MANAGER and manager.get("operation") == "Apply" and "f:replicas" in owned
    )


def _pod(item: Object) -> Object:
    metadata, spec = item["metadata"], item["spec"]
    kept = (
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "labels",
        "ownerReferences",
        "creationTimestamp",
        "deletionTimestamp",
    )
    return {
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {key: spec[key] for key in ("nodeName", "readinessGates") if spec.get(key)},
        "status": item.get("status") or {},
    }


def _replica_set(item: Object) -> Object:
    """Without its template, except which ConfigMaps its pods need."""
    item["metadata"].pop("managedFields", None)
    volumes = item["spec"]["template"]["spec"].get("volumes") or ()
    item["spec"] = {"replicas": item["spec"].get("replicas")}
    item["configMaps"] = [each["configMap"]["name"] for each in volumes if each.get("configMap")]
    return item


_OUR_ANNOTATIONS = (names.APPLIED, names.FILES_DIGEST)


def _metadata(item: Object) -> Object:
    metadata = item["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "ownerReferences", "deletionTimestamp")
    ours = {key: value for key, value in (metadata.get("annotations") or {}).items() if key in _OUR_ANNOTATIONS}
    labels = {
        key: value
        for key, value in (metadata.get("labels") or {}).items()
        if names.LABEL in (metadata.get("labels") or {})
    }
    return {
        "metadata": {**{key: metadata[key] for key in kept if key in metadata}, "annotations": ours, "labels": labels}
    }


def _event(item: Object) -> Object:
    metadata = item["metadata"]
    kept = ("involvedObject", "reason", "message", "lastTimestamp", "eventTime", "series")
    return {
        "metadata": {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion")},
        **{key: item[key] for key in kept if item.get(key)},
    }


@dataclass(frozen=True)
class Kind:
    """`keep` trims an object to what is needed of it; `metadata_only` asks the API server for nothing more."""

    name: str
    api_version: str
    plural: str
    keep: Callable[[Object], Object] = _whole
    label_selector: str = names.LABEL
    field_selector: str = ""
    metadata_only: bool = False
    is_written: bool = False

    def path(self, namespace: str | None, name: str | None = None) -> str:
        prefix = "/api/v1" if self.api_version == "v1" else f"/apis/{self.api_version}"
        where = f"/namespaces/{namespace}" if namespace else ""
        return f"{prefix}{where}/{self.plural}" + (f"/{name}" if name else "")


MODEL_RUNTIME = Kind(names.KIND, names.API_VERSION, names.PLURAL, label_selector="")
DEPLOYMENT = Kind("Deployment", "apps/v1", "deployments", _with_owned_replicas, is_written=True)
REPLICA_SET = Kind("ReplicaSet", "apps/v1", "replicasets", _replica_set)
POD = Kind("Pod", "v1", "pods", _pod)
SERVICE = Kind("Service", "v1", "services", is_written=True)
ENDPOINT_SLICE = Kind("EndpointSlice", "discovery.k8s.io/v1", "endpointslices")
# All of them, because a person's ConfigMaps have no label of ours; their content is read only where a source names one.
CONFIG_MAP = Kind("ConfigMap", "v1", "configmaps", _metadata, label_selector="", metadata_only=True, is_written=True)
DISRUPTION_BUDGET = Kind("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets", is_written=True)
AUTOSCALER = Kind("HorizontalPodAutoscaler", "autoscaling/v2", "horizontalpodautoscalers", is_written=True)
NETWORK_POLICY = Kind("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies", is_written=True)
EVENT = Kind("Event", "v1", "events", _event, label_selector="", field_selector="type!=Normal")

OBSERVED = (
    DEPLOYMENT,
    REPLICA_SET,
    POD,
    SERVICE,
    ENDPOINT_SLICE,
    CONFIG_MAP,
    DISRUPTION_BUDGET,
    AUTOSCALER,
    NETWORK_POLICY,
    EVENT,
)
WRITTEN = {kind.name: kind for kind in OBSERVED if kind.is_written}


def key_of(item: Mapping[str, Any]) -> Key:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]
