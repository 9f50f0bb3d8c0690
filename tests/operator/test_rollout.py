"""A ModelRuntime's life on the real API server with the real controller-manager. The kubelet's part is played by the tests."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from operating import CPU_REQUEST, Operator, World, eventually, runtime

pytestmark = pytest.mark.apiserver


def generations(world: World) -> dict[str, Any]:
    """uid and generation of every owned object: what rolls a pod or rewrites an object changes them."""
    kinds = "deployments,replicasets,services,configmaps,poddisruptionbudgets,horizontalpodautoscalers"
    items = json.loads(world.kubectl("get", kinds, "-o", "json", "-l", "runtime.hydrosphere.io/modelruntime"))["items"]
    return {
        f"{item['kind']}/{item['metadata']['name']}": (item["metadata"]["uid"], item["metadata"].get("generation"))
        for item in items
    }


def test_a_model_runtime_is_rolled_out_and_says_so(world: World, operator: Operator) -> None:
    world.apply(runtime())
    world.await_reason("adder", "Deploying")
    assert world.condition("adder", "Available")["status"] == "False"

    world.serve("adder")
    world.kubectl("wait", "mr/adder", "--for=condition=Ready", "--timeout=10s")

    status = world.get("mr", "adder")["status"]
    assert status["observedGeneration"] == 1
    assert status["endpoint"] == f"adder.{world.namespace}.svc.cluster.local:9090"
    assert status["contract"]["signature"] == "predict(x: double[*]) -> y: double[*]"
    assert (status["replicas"], status["readyReplicas"], status["updatedReplicas"]) == (1, 1, 1)
    answers = {each["type"]: each["status"] for each in status["conditions"]}
    assert answers == {
        "Ready": "True", "Available": "True", "Reconciling": "False", "Stalled": "False", "ContractAccepted": "True",
    }  # fmt: skip
    service = world.get("service", "adder")["spec"]
    assert (service["clusterIP"], service["ports"][0]["appProtocol"]) == ("None", "kubernetes.io/h2c")


def test_each_transition_is_told_once_and_in_order(world: World, operator: Operator) -> None:
    world.apply(runtime())
    world.serve("adder")
    world.await_reason("adder", "Available")
    time.sleep(1)

    events = [each for each in world.all("events") if each["involvedObject"]["kind"] == "ModelRuntime"]
    told = [each["reason"] for each in sorted(events, key=lambda each: int(each["metadata"]["resourceVersion"]))]
    assert told == ["ContractAccepted", "RolloutStarted", "RolledOut"]


def test_what_the_pods_do_not_see_moves_no_pod(world: World, operator: Operator) -> None:
    world.apply(runtime(replicas=1))
    world.serve("adder")
    world.await_reason("adder", "Available")
    before = generations(world)

    world.kubectl("label", "mr/adder", "team=vision")
    world.apply(runtime(replicas=1, networkPolicy={}, disruptionBudget={"maxUnavailable": 1}))
    eventually(lambda: world.names("networkpolicies") == ["adder"])
    eventually(lambda: world.get("mr", "adder")["status"]["observedGeneration"] == 2)

    assert {name: generation for name, generation in generations(world).items() if name in before} == before


def test_a_changed_contract_rolls_the_pods_and_the_old_one_stays_as_long_as_it_may_be_needed(
    world: World, operator: Operator
) -> None:
    world.apply(runtime())
    world.serve("adder")
    world.await_reason("adder", "Available")
    [old] = [name for name in world.names("configmaps") if "contract" in name]

    changed = runtime()
    changed["spec"]["contract"]["outputs"]["y"] = {"shape": [-1], "type": "float32"}
    world.apply(changed)
    eventually(lambda: len(world.names("replicasets")) == 2)
    assert old in world.names("configmaps")  # the old ReplicaSet's pods read it
    assert world.condition("adder", "Available")["status"] == "True"

    revision = "deployment.kubernetes.io/revision"
    sets = {each["metadata"]["annotations"][revision]: each["metadata"]["name"] for each in world.all("replicasets")}
    world.serve("adder", 2)
    world.await_reason("adder", "Available", 20)
    world.bury()
    world.kubectl("delete", "replicaset", sets["1"])
    world.kubectl("annotate", "mr/adder", "touched=1")
    eventually(lambda: old not in world.names("configmaps"))


def test_a_source_config_map_rolls_the_pods_when_its_bytes_change_and_not_otherwise(
    world: World, operator: Operator
) -> None:
    source = {"configMap": {"name": "model", "items": [{"key": "main", "path": "src/func_main.py"}]}}
    code = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "model"},
        "data": {"main": "def predict(x): return {'y': x}"},
    }
    world.apply(runtime(model=source))
    stalled = world.await_reason("adder", "SourceNotFound")
    assert "ConfigMap model: not found" in stalled["message"]
    assert world.condition("adder", "Stalled")["status"] == "True"

    world.apply(code)  # the ModelRuntime is not touched: the ConfigMap alone wakes us
    world.await_reason("adder", "Deploying")
    first = world.get("deployment", "adder")["metadata"]["generation"]
    world.kubectl("label", "configmap/model", "team=vision")
    world.apply({**code, "data": {**code["data"], "unused": "x"}})
    time.sleep(1.5)
    assert world.get("deployment", "adder")["metadata"]["generation"] == first

    world.apply({**code, "data": {"main": "def predict(x): return {'y': x * 2}"}})
    eventually(lambda: world.get("deployment", "adder")["metadata"]["generation"] == first + 1)


def copies(world: World) -> dict[str, dict[str, str]]:
    """The pods' copies of the source, by name."""
    found = [each for each in world.all("configmaps") if each["metadata"]["name"].startswith("adder-files-")]
    return {each["metadata"]["name"]: each.get("binaryData", {}) for each in found}


def mounted(world: World) -> str:
    """The ConfigMap of the model's files, as the Deployment names it."""
    volumes = world.get("deployment", "adder")["spec"]["template"]["spec"]["volumes"]
    return str(next(each["configMap"]["name"] for each in volumes if each["name"] == "files"))


def test_an_old_pod_never_sees_a_new_file_of_its_source(world: World, operator: Operator) -> None:
    source = {"configMap": {"name": "model", "items": [{"key": "main", "path": "src/func_main.py"}]}}
    code = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "model"},
        "data": {"main": "first", "other": "x"},
    }
    world.apply(code, runtime(model=source))
    world.serve("adder")
    world.await_reason("adder", "Available")
    [old] = copies(world)
    assert mounted(world) == old
    assert copies(world)[old] == {"main": base64.b64encode(b"first").decode()}  # nothing that the model cannot see
    assert world.get("configmap", old)["immutable"]

    world.apply({**code, "data": {"main": "second"}})
    eventually(lambda: mounted(world) != old)
    assert copies(world)[old] == {"main": base64.b64encode(b"first").decode()}  # the old pods may start again
    assert copies(world)[mounted(world)] == {"main": base64.b64encode(b"second").decode()}

    world.kubectl("delete", "configmap", "model")
    world.await_reason("adder", "SourceNotFound")
    assert len(copies(world)) == 2  # what serves goes on serving

    world.apply({**code, "data": {"main": "second"}})
    [first] = [each for each in world.all("replicasets") if _revision(each) == "1"]
    world.serve("adder", 2)
    world.await_reason("adder", "Available", 20)
    world.bury()
    world.kubectl("delete", "replicaset", first["metadata"]["name"])
    eventually(lambda: list(copies(world)) == [mounted(world)])


def _revision(item: dict[str, Any]) -> str:
    return str(item["metadata"]["annotations"]["deployment.kubernetes.io/revision"])


def test_the_largest_and_the_oddest_source_is_copied_byte_for_byte(world: World, operator: Operator) -> None:
    texts = {"src__func_main.py": "def predict(x):\n    return {'y': x}\n", "src__a.txt": "\x01\u00e9\n" * 1000}
    room = 1024 * 1024 - sum(len(text.encode()) for text in texts.values())
    weights = base64.b64encode(os.urandom(room)).decode()
    source = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "model"}, "data": texts}
    world.create({**source, "binaryData": {"weights.bin": weights}})

    world.apply(runtime(model={"configMap": {"name": "model"}}))
    world.await_reason("adder", "Deploying")

    [copy] = copies(world).values()
    assert {key: base64.b64decode(value) for key, value in copy.items() if key in texts} == {
        key: text.encode() for key, text in texts.items()
    }
    assert copy["weights.bin"] == weights


def test_a_copy_that_somebody_deletes_is_made_again(world: World, operator: Operator) -> None:
    code = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "model"}, "data": {"src__func_main.py": "x"}}
    world.apply(code, runtime(model={"configMap": {"name": "model"}}))
    world.await_reason("adder", "Deploying")
    before = copies(world)

    world.kubectl("delete", "configmap", *before)

    eventually(lambda: copies(world) == before)


def test_the_autoscaler_takes_over_the_replicas_and_keeps_them(world: World, operator: Operator) -> None:
    world.apply(runtime(replicas=3))
    eventually(lambda: world.names("poddisruptionbudgets") == ["adder"])

    world.apply(runtime(autoscaling={"minReplicas": 2, "maxReplicas": 9}, resources=CPU_REQUEST))
    eventually(lambda: world.names("horizontalpodautoscalers") == ["adder"])
    assert world.get("deployment", "adder")["spec"]["replicas"] == 3  # nobody let it fall to 1

    world.kubectl("scale", "deployment/adder", "--replicas=7")  # as the autoscaler does
    world.kubectl("label", "mr/adder", "touched=1")
    time.sleep(1.5)
    assert world.get("deployment", "adder")["spec"]["replicas"] == 7

    world.apply(runtime(replicas=1))
    eventually(lambda: world.names("horizontalpodautoscalers") == [] and world.names("poddisruptionbudgets") == [])
    eventually(lambda: world.get("deployment", "adder")["spec"]["replicas"] == 1)


def test_kubectl_scale_and_paused_do_what_they_say(world: World, operator: Operator) -> None:
    world.apply(runtime(replicas=1))
    world.kubectl("scale", "mr/adder", "--replicas=2")
    eventually(lambda: world.get("deployment", "adder")["spec"]["replicas"] == 2)
    world.serve("adder", 2)
    world.await_reason("adder", "Available")

    paused = runtime(replicas=2, paused=True, env=[{"name": "A", "value": "1"}])
    world.apply(paused)
    world.await_reason("adder", "Paused")
    assert world.condition("adder", "Available")["status"] == "True"
    assert len(world.names("replicasets")) == 1


def test_zero_replicas_are_never_called_ready(world: World, operator: Operator) -> None:
    world.apply(runtime(replicas=0))

    assert world.await_reason("adder", "ScaledToZero")["status"] == "False"


def test_an_operator_that_starts_again_writes_nothing(world: World, start: Callable[..., Operator]) -> None:
    first = start()
    first.wait_ready()
    world.apply(runtime(), runtime("second", replicas=2, resources={"requests": {"cpu": "1000m", "memory": "0.5Gi"}}))
    world.serve("adder")
    world.await_reason("adder", "Available")
    world.await_reason("second", "Deploying")
    first.await_quiet()
    first.kill()
    before = generations(world)

    second = start()
    second.wait_ready()
    eventually(lambda: second.metric("model_runtime_operator_reconciles_total", outcome="done") >= 2)

    assert second.writes == 0
    assert generations(world) == before


def test_a_model_runtime_is_deleted_while_the_operator_is_down(world: World, start: Callable[..., Operator]) -> None:
    operator = start()
    operator.wait_ready()
    world.apply(runtime())
    world.await_reason("adder", "Deploying")
    assert operator.stop() == 0
    assert "finalizers" not in world.get("mr", "adder")["metadata"]
    assert "annotations" not in world.get("mr", "adder")["metadata"]

    world.kubectl("delete", "mr/adder", "--timeout=10s")

    eventually(lambda: world.names("deployments") == [] and world.names("services") == [], 20)


def test_a_model_runtime_made_anew_under_its_old_name_gets_objects_of_its_own(world: World, operator: Operator) -> None:
    world.apply(runtime())
    world.await_reason("adder", "Deploying")
    world.kubectl("delete", "mr/adder")
    world.apply(runtime())

    uid = world.get("mr", "adder")["metadata"]["uid"]
    eventually(lambda: _owners(world, "deployments") == [uid] and _owners(world, "services") == [uid], 30)
    world.await_reason("adder", "Deploying")


def _owners(world: World, kind: str) -> list[str]:
    return [owner["uid"] for item in world.all(kind) for owner in item["metadata"]["ownerReferences"]]
