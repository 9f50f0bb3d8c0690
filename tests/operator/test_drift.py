"""What others change in our objects: every field that we say is noticed by itself and put right, and what they add survives.

Each field's own drift is made by the real API server (as a dry run), so that the comparison sees what it would see.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from kube import Denied
from operating import IMAGE, Operator, World, eventually, runtime

from model_runtime_operator import defaults, desired, spec
from model_runtime_operator.cluster import comparison
from model_runtime_operator.cluster.kinds import WRITTEN
from model_runtime_operator.desired import Platform

pytestmark = pytest.mark.apiserver

JSON_PATCH = "application/json-patch+json"
PEER = {"podSelector": {"matchLabels": {"app": "caller"}}}
RICH: dict[str, Any] = {
    "env": [{"name": "LOG_LEVEL", "value": "debug"}],
    "requirements": ["numpy"],
    "warmup": {"inputs": {"x": [1.0]}},
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "podAnnotations": {"team": "vision"},
    "podLabels": {"tier": "models"},
    "networkPolicy": {"from": [PEER]},
    "hydrosphere": {"servableName": "adder-1", "modelVersionId": 7},
    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
}
FIXED = {**RICH, "replicas": 2, "disruptionBudget": {"maxUnavailable": 1}}
SCALED = {**RICH, "autoscaling": {"minReplicas": 2, "maxReplicas": 5, "targetCPUUtilization": 60}}

Path = tuple[str | int, ...]


def said(world: World) -> list[dict[str, Any]]:
    """What the operator means the objects to be."""
    body = world.get("mr", "adder")
    wanted = desired.objects(spec.parse(body), Platform(IMAGE))
    for each in wanted:
        if each["kind"] == "Deployment":
            each["metadata"]["annotations"] = defaults.record({})
    return wanted


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every place below the value, structures included."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield (*path, key)
        yield from leaves(each, (*path, key))


def at(item: Any, path: Path) -> Any:
    for key in path:
        item = item[key]
    return item


def located(live: dict[str, Any], wanted: dict[str, Any], path: Path) -> Path | None:
    """The same place in the live object, whose lists may be in another order. None: it is not stored."""
    found: list[str | int] = []
    for number, key in enumerate(path):
        here = at(live, tuple(found))
        if isinstance(key, int):
            item = at(wanted, path[: number + 1])
            places = [place for place, each in enumerate(here) if comparison.contains(each, item)]
            if not places:
                return None
            key = places[0]
        elif key not in here:
            return None
        found.append(key)
    return tuple(found)


def other(value: Any) -> Any:
    """Something else of the same type."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else f"x{value}"


def pointer(path: Path) -> str:
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in path)


def drifts(live: dict[str, Any], wanted: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """JSON patches that change, or take away, one thing of what we say; and that add to what must not be added to."""
    for path in leaves(wanted):
        if path[0] in ("apiVersion", "kind") or path[:2] in (("metadata", "name"), ("metadata", "namespace")):
            continue
        if path[:2] == ("metadata", "ownerReferences") and path[-1] == "uid":
            continue  # an owner that does not exist: the cluster itself deletes the object, and it is made anew
        place = located(live, wanted, path)
        if place is None:
            continue
        value = at(live, place)
        yield [{"op": "remove", "path": pointer(place)}]
        if not isinstance(value, (dict, list)):
            yield [{"op": "replace", "path": pointer(place), "value": other(value)}]
        if path[-1] in ("selector", "matchLabels", "nodeSelector") and "matchLabels" not in value:
            yield [{"op": "add", "path": f"{pointer(place)}/added", "value": "x"}]
        if isinstance(value, list) and path[-1] in ("args", "command", "tolerations", "ingress", "from", "items"):
            yield [{"op": "add", "path": f"{pointer(place)}/-", "value": _another(value)}]


def _another(items: list[Any]) -> Any:
    if isinstance(items[0], str):
        return "added"
    return (
        {"podSelector": {}}
        if "podSelector" in items[0]
        else {**items[0], "path": "added"}
        if "path" in items[0]
        else items[0]
    )


def dry(world: World, kind: str, name: str, patch: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The object as it would be after the patch; None where the API server itself forbids it."""
    try:
        found: dict[str, Any] = world.kube.call("PATCH", world.kube.path(kind, name), patch, JSON_PATCH, dryRun="All")
    except Denied:
        return None
    return found


def core(item: dict[str, Any]) -> str:
    """What people say of an object, without what the cluster keeps."""
    metadata = {key: item["metadata"].get(key) for key in ("labels", "ownerReferences")}
    return json.dumps([metadata, {key: item[key] for key in item if key not in ("metadata", "status")}], sort_keys=True)


@pytest.mark.parametrize("settings", [FIXED, SCALED], ids=["fixed", "autoscaled"])
def test_the_drift_of_each_field_is_noticed_by_itself_and_put_right(
    world: World, operator: Operator, settings: dict[str, Any]
) -> None:
    world.apply(runtime(**settings))
    world.await_reason("adder", "Deploying")
    operator.await_quiet()
    for wanted in said(world):
        kind, name = wanted["kind"], wanted["metadata"]["name"]
        live = world.get(kind, name)
        before, made = core(live), []
        assert comparison.is_applied(wanted, WRITTEN[kind].keep(world.get(kind, name)))
        for patch in drifts(live, wanted):
            drifted = dry(world, kind, name, patch)
            if drifted is not None and core(drifted) != before:
                made.append(patch)
                assert not comparison.is_applied(wanted, WRITTEN[kind].keep(drifted)), patch
        assert made, kind
        identity = [patch for patch in made if _is_identity(patch)]
        for some in (*([each] for each in identity), [each for each in made if each not in identity]):
            for patch in some:
                dry_or_made(world, kind, name, patch)
            eventually(lambda wanted=wanted: is_right(world, wanted), 20, lambda wanted=wanted: wanted["kind"])


def is_right(world: World, wanted: dict[str, Any]) -> bool:
    with contextlib.suppress(Denied):
        return comparison.is_applied(wanted, world.get(wanted["kind"], wanted["metadata"]["name"]))
    return False


def _is_identity(patch: list[dict[str, Any]]) -> bool:
    """By one of label and owner an object is known as ours: without either it is somebody else's."""
    ends = ("/metadata/labels", "~1modelruntime", "/ownerReferences", "/ownerReferences/0")
    return patch[0]["path"].startswith("/metadata/") and patch[0]["path"].endswith(ends)


def dry_or_made(world: World, kind: str, name: str, patch: list[dict[str, Any]]) -> None:
    with contextlib.suppress(Denied):  # an earlier one may have taken the place away
        world.kube.call("PATCH", world.kube.path(kind, name), patch, JSON_PATCH)


def test_what_cannot_be_beside_what_we_say_goes(world: World, operator: Operator) -> None:
    """An apply would keep the other handler, source or profile, and be refused for ever."""
    world.apply(runtime())
    world.await_reason("adder", "Deploying")
    operator.await_quiet()
    before = core(world.get("deployment", "adder"))
    container = "/spec/template/spec/containers/0"
    probe = {"httpGet": {"path": "/", "port": 1}}
    changes: list[tuple[str, Any]] = [
        (f"{container}/livenessProbe", probe),
        ("/spec/template/spec/volumes/0", {"name": "files", "emptyDir": {}}),
        ("/spec/template/spec/securityContext/seccompProfile", {"type": "Localhost", "localhostProfile": "x"}),
        (f"{container}/lifecycle/preStop", {"exec": {"command": ["true"]}}),
    ]
    for path, value in changes:
        patch = [{"op": "replace", "path": path, "value": value}]
        world.kube.call("PATCH", world.kube.path("deployment", "adder"), patch, JSON_PATCH)
        eventually(lambda: core(world.get("deployment", "adder")) == before, 10)


def test_what_others_add_survives(world: World, operator: Operator) -> None:
    world.apply(runtime())
    world.await_reason("adder", "Deploying")
    world.kubectl("annotate", "deployment/adder", "team=vision")
    world.kubectl("label", "service/adder", "team=vision")
    world.kubectl("set", "env", "deployment/adder", "EXTRA=1")
    world.kubectl("rollout", "restart", "deployment/adder")
    world.kubectl("set", "image", "deployment/adder", "runtime=evil:1")

    eventually(lambda: _container(world)["image"] == IMAGE)
    assert world.get("deployment", "adder")["metadata"]["annotations"]["team"] == "vision"
    assert world.get("service", "adder")["metadata"]["labels"]["team"] == "vision"
    assert {"name": "EXTRA", "value": "1"} in _container(world)["env"]
    template = world.get("deployment", "adder")["spec"]["template"]
    assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"]


def _container(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.get("deployment", "adder")["spec"]["template"]["spec"]["containers"][0]
    return found


# Objects of others -----------------------------------------------------------------------------------------------------

LABELS = {"matchLabels": {"app": "x"}}
POD = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
SCALE_TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "adder"}
BUDGET = {"kind": "PodDisruptionBudget", "apiVersion": "policy/v1"}
AUTOSCALER = {"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v2"}
THEIRS: dict[str, dict[str, Any]] = {
    "a Service": {"kind": "Service", "spec": {"ports": [{"port": 1}], "selector": {"app": "x"}}},
    "a headless Service without selector": {"kind": "Service", "spec": {"clusterIP": "None"}},
    "a Service of two families": {"kind": "Service", "spec": {"ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 9090}]}},
    "a Service of a name elsewhere": {"kind": "Service", "spec": {"type": "ExternalName", "externalName": "example.com"}},
    "a Service without a word": {"kind": "Service", "spec": {"ports": [{"port": 9090, "name": "grpc"}]}},
    "a Deployment": {"kind": "Deployment", "apiVersion": "apps/v1", "spec": {"selector": LABELS, "template": POD}},
    "a disruption budget": {**BUDGET, "spec": {"minAvailable": 1, "selector": LABELS}},
    "an empty disruption budget": {**BUDGET, "spec": {}},
    "a network policy": {"kind": "NetworkPolicy", "apiVersion": "networking.k8s.io/v1", "spec": {"podSelector": {}}},
    "an autoscaler": {**AUTOSCALER, "spec": {"maxReplicas": 3, "scaleTargetRef": SCALE_TARGET}},
}  # fmt: skip


@pytest.mark.parametrize("is_labelled", [False, True], ids=["bare", "labelled"])
@pytest.mark.parametrize("what", THEIRS)
def test_an_object_of_somebody_else_is_not_touched_and_stays(
    world: World, operator: Operator, what: str, is_labelled: bool
) -> None:
    labels = {"runtime.hydrosphere.io/modelruntime": "adder"} if is_labelled else {}
    theirs = {"apiVersion": "v1", **THEIRS[what], "metadata": {"name": "adder", "labels": labels}}
    kind = theirs["kind"]
    if kind == "Deployment" and is_labelled:
        theirs["spec"] = {**theirs["spec"], "replicas": 0}
    world.create(theirs)
    before = untouched(world, kind)

    world.apply(runtime(**(SCALED if kind == "HorizontalPodAutoscaler" else FIXED)))
    ready = world.await_reason("adder", "NameConflict")

    assert ready["message"].startswith(f"{kind} adder: exists and belongs to somebody else")
    assert untouched(world, kind) == before
    world.kubectl("delete", "mr", "adder")
    assert untouched(world, kind) == before


def untouched(world: World, kind: str) -> tuple[str, Any]:
    found = world.get(kind, "adder")
    managers = [each["manager"] for each in found["metadata"].get("managedFields", ()) if not each.get("subresource")]
    return core(found), managers


def test_a_config_map_of_somebody_else_is_not_touched(world: World, operator: Operator) -> None:
    world.apply(runtime())
    world.await_reason("adder", "Deploying")
    [contract] = [name for name in world.names("configmaps") if "contract" in name]
    world.kubectl("delete", "mr", "adder")
    eventually(lambda: contract not in world.names("configmaps"), 20)
    world.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": contract}, "data": {"a": "b"}})
    before = untouched_map(world, contract)

    world.apply(runtime())
    ready = world.await_reason("adder", "NameConflict")

    assert contract in ready["message"]
    assert untouched_map(world, contract) == before


def untouched_map(world: World, name: str) -> str:
    return core(world.get("configmap", name))
