"""The lean baseline: the writes that a fleet comes to, made by the driver alone. It decides, watches and checks nothing.

What it takes is what the API server and its controllers take.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import fleet
from .api import APPLY, MERGE, Api, at_a_time

WRITERS = 8  # as many as the operator has workers
_KINDS = {
    "deployments": "/apis/apps/v1",
    "services": "/api/v1",
    "configmaps": "/api/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
    "networkpolicies": "/apis/networking.k8s.io/v1",
}
_SERVER_SIDE = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")


@dataclass(frozen=True)
class Sample:
    """What the operator made of one ModelRuntime, as text in which names and uid can be put anew."""

    name: str
    namespace: str
    uid: str
    children: tuple[tuple[str, str], ...]  # the path of the collection, the object
    status: str


async def sample(api: Api, number: int = 0) -> Sample:
    """Takes the sample of a fleet that is Ready."""
    wanted = fleet.model_runtime(number)
    name, namespace = wanted["metadata"]["name"], wanted["metadata"]["namespace"]
    owner = await api.call("GET", f"{fleet.path_of(wanted)}/{name}")
    children = []
    for plural, group in _KINDS.items():
        place = f"{group}/namespaces/{namespace}/{plural}"
        for item in (await api.call("GET", place))["items"]:
            owners = item["metadata"].get("ownerReferences", ())
            if any(each["uid"] == owner["metadata"]["uid"] for each in owners):
                children.append((place, json.dumps(_as_applied(item, group, plural))))
    return Sample(name, namespace, owner["metadata"]["uid"], tuple(children), json.dumps(owner["status"]))


async def seconds(api: Api, count: int, example: Sample) -> float:
    """How long it takes to write the whole fleet."""

    def writing(number: int) -> Callable[[], Any]:
        return lambda: _write(api, number, example)

    began = time.monotonic()
    await at_a_time(WRITERS, (writing(number) for number in range(count)))
    return time.monotonic() - began


async def _write(api: Api, number: int, example: Sample) -> None:
    item = fleet.model_runtime(number)
    name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
    owner = await api.call("POST", fleet.path_of(item), item)

    def renamed(text: str) -> str:
        text = text.replace(example.name, name).replace(example.uid, owner["metadata"]["uid"])
        return text.replace(f"namespaces/{example.namespace}/", f"namespaces/{namespace}/").replace(
            f'"namespace": "{example.namespace}"', f'"namespace": "{namespace}"'
        )

    for place, text in example.children:
        child = json.loads(renamed(text))
        path = f"{renamed(place)}/{child['metadata']['name']}"
        await api.call("PATCH", path, child, APPLY, fieldManager="floor", force="true")
    status = {"status": json.loads(renamed(example.status))}
    await api.call("PATCH", f"{fleet.path_of(item)}/{name}/status", status, MERGE)


def _as_applied(item: dict[str, Any], group: str, plural: str) -> dict[str, Any]:
    kinds = {"deployments": "Deployment", "services": "Service", "configmaps": "ConfigMap"}
    kinds |= {"poddisruptionbudgets": "PodDisruptionBudget", "networkpolicies": "NetworkPolicy"}
    metadata = {key: value for key, value in item["metadata"].items() if key not in _SERVER_SIDE}
    content = {key: value for key, value in item.items() if key != "status"}
    version = group.removeprefix("/apis/").removeprefix("/api/")
    return {**content, "apiVersion": version, "kind": kinds[plural], "metadata": metadata}
