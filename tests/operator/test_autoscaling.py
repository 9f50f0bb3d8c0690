"""Whatever scales a ModelRuntime: a number in its spec, `kubectl scale`, an autoscaler of its own or of somebody else.

The HorizontalPodAutoscaler controller is the real one; what the pods use is told by a metrics API of this test.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from kube import Denied
from metering import Meter, metered
from operating import CPU_REQUEST, Operator, World, eventually, runtime

pytestmark = pytest.mark.apiserver

MEMORY = {
    "type": "Resource",
    "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}},
}


def scale(world: World, name: str = "adder") -> dict[str, Any]:
    found: dict[str, Any] = world.kube.call("GET", world.kube.path("mr", name, "scale"))
    return found


def set_scale(world: World, replicas: int, name: str = "adder") -> None:
    """As an autoscaler does: it reads the scale and puts another number in, again where somebody else was quicker."""
    try:
        body = scale(world, name)
        body["spec"] = {"replicas": replicas}
        world.kube.call("PUT", world.kube.path("mr", name, "scale"), body)
    except Denied as denied:
        if denied.status != 409:
            raise
        set_scale(world, replicas, name)


def deployed(world: World, name: str = "adder") -> int:
    return int(world.get("deployment", name)["spec"]["replicas"])


@pytest.mark.parametrize(
    "spec", [{}, {"replicas": 0}, {"replicas": 3}, {"autoscaling": {"maxReplicas": 4}, "resources": CPU_REQUEST}]
)
def test_scale_always_answers(world: World, api: object, spec: dict[str, Any]) -> None:
    world.apply(runtime(**spec))  # no operator has seen it yet

    assert scale(world)["spec"].get("replicas", 0) == spec.get("replicas", 1)


def test_the_scale_tells_how_many_pods_there_are_and_which(world: World, operator: Operator) -> None:
    world.apply(runtime(replicas=2))
    world.serve("adder", 2)
    world.await_reason("adder", "Available")

    status = scale(world)["status"]
    assert status == {"replicas": 2, "selector": "runtime.hydrosphere.io/modelruntime=adder"}
    assert len(json.loads(world.kubectl("get", "pods", "-l", status["selector"], "-o", "json"))["items"]) == 2


@pytest.mark.parametrize("server_side", [True, False])
def test_a_manifest_without_replicas_keeps_the_number_that_an_autoscaler_wrote(
    world: World, operator: Operator, server_side: bool
) -> None:
    def apply(**spec: Any) -> None:
        how = ["--server-side"] if server_side else []
        world.kubectl("apply", *how, "-f", "-", text=json.dumps(runtime(**spec)))

    apply()
    world.await_reason("adder", "Deploying")
    set_scale(world, 5)
    eventually(lambda: deployed(world) == 5)
    apply(env=[{"name": "A", "value": "1"}])
    eventually(lambda: world.get("mr", "adder")["status"]["observedGeneration"] == 3)

    assert world.get("mr", "adder")["spec"]["replicas"] == 5
    assert deployed(world) == 5


def test_a_scaled_object_goes_to_zero_and_back(world: World, operator: Operator) -> None:
    """What KEDA does by itself; between one and many it is a HorizontalPodAutoscaler."""
    world.apply(runtime())
    world.serve("adder")
    world.await_reason("adder", "Available")

    set_scale(world, 0)
    world.await_reason("adder", "ScaledToZero")
    world.bury()
    eventually(lambda: scale(world)["status"]["replicas"] == 0)

    set_scale(world, 1)
    world.serve("adder")
    world.await_reason("adder", "Available")


def test_two_autoscalers_at_once_are_refused_with_the_reason(world: World, operator: Operator) -> None:
    world.apply(runtime(autoscaling={"maxReplicas": 4}, resources=CPU_REQUEST))

    with pytest.raises(Denied, match="the HorizontalPodAutoscaler decides how many"):
        set_scale(world, 3)


@pytest.mark.parametrize(
    "autoscaling", [{"maxReplicas": 2}, {"maxReplicas": 2, "targetCPUUtilization": 60, "metrics": [MEMORY]}]
)
def test_a_percentage_of_nothing_is_refused(world: World, operator: Operator, autoscaling: dict[str, Any]) -> None:
    world.apply(runtime(autoscaling=autoscaling, resources={"requests": {"memory": "1Gi"}}))
    assert "spec.resources.requests.cpu: expected a quantity" in world.await_reason("adder", "InvalidSpec")["message"]

    world.apply(runtime(autoscaling={"maxReplicas": 2, "metrics": [MEMORY]}))
    world.await_reason("adder", "Deploying")
    world.apply(runtime(autoscaling={"maxReplicas": 2}, resources={"limits": {"cpu": "1"}}))
    eventually(
        lambda: world.get("horizontalpodautoscalers", "adder")["spec"]["metrics"][0]["resource"]["name"] == "cpu"
    )


def test_a_real_autoscaler_of_a_model_runtime_scales_from_one_to_four_and_back(
    world: World, operator: Operator, tmp_path: Path
) -> None:
    world.apply(runtime(resources=CPU_REQUEST))
    world.serve("adder")
    world.await_reason("adder", "Available")
    with metered(world, tmp_path) as meter:
        world.kubectl("autoscale", "modelruntime/adder", "--min=1", "--max=6", "--cpu=50%")
        _scales_to(world, meter, load=200, replicas=4)
        _scales_to(world, meter, load=20, replicas=1)


def test_an_autoscaler_of_our_own_scales_by_cpu_and_by_other_metrics(
    world: World, operator: Operator, tmp_path: Path
) -> None:
    autoscaling = {
        "maxReplicas": 6,
        "targetCPUUtilization": 50,
        "metrics": [MEMORY],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 1}},
    }
    world.apply(runtime(autoscaling=autoscaling, resources=CPU_REQUEST))
    world.serve("adder")
    world.await_reason("adder", "Available")
    with metered(world, tmp_path) as meter:
        _scales_to(world, meter, load=200, replicas=4)
        assert len(world.get("horizontalpodautoscalers", "adder")["status"]["currentMetrics"]) == 2
        _scales_to(world, meter, load=20, replicas=1)


def _scales_to(world: World, meter: Meter, *, load: int, replicas: int) -> None:
    """With that many thousandths of a core in use; the pods that come are ready at once, those that go are gone."""
    meter.millicores = load
    end = time.monotonic() + 60
    while not _is_scaled(world, replicas):
        assert time.monotonic() < end, world.kubectl("describe", "hpa")
        world.beat()
        world.bury()
        for number, pod in enumerate(world.all("pods")):
            if "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") != "Running":
                world.come_up(pod, f"198.18.1.{number + 10}")
        time.sleep(0.5)
    world.await_reason("adder", "Available")


def _is_scaled(world: World, replicas: int) -> bool:
    status = world.get("mr", "adder")["status"]
    return bool(status["replicas"] == status["readyReplicas"] == replicas)
