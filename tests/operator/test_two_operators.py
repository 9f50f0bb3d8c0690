"""Two operators that watch one namespace: one manages each ModelRuntime, the other says so and leaves it alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from operating import Operator, World, eventually, runtime

pytestmark = pytest.mark.apiserver

OPERATOR = "runtime.hydrosphere.io/operator"


def _image(world: World, name: str) -> str:
    [container] = world.get("deployment", name)["spec"]["template"]["spec"]["containers"]
    return str(container["image"])


def _warnings(world: World) -> list[str]:
    return [each["message"] for each in world.all("events") if each["reason"] == "ManagedElsewhere"]


@pytest.fixture
def begin(world: World, start: Callable[..., Operator]) -> Callable[[str], Operator]:
    """Starts the operator of a release of that name, with an image of its own."""

    def begin(release: str) -> Operator:
        operator = start(
            world.api.kubeconfig,
            LEADER_ELECTION="true",
            POD_NAMESPACE=world.namespace,
            POD_NAME=f"{release}-pod",
            LEASE_NAME=release,
            RUNTIME_IMAGE=f"runtime.example.com/{release}:1",
        )
        operator.wait_ready()
        eventually(lambda: operator.metric("model_runtime_operator_leading") == 1, 15)
        return operator

    return begin


def test_the_second_operator_leaves_a_model_runtime_alone_and_says_so(
    world: World, begin: Callable[[str], Operator]
) -> None:
    first = begin("first")
    world.apply(runtime())
    world.await_reason("adder", "Deploying")
    assert world.get("deployment", "adder")["metadata"]["annotations"][OPERATOR] == f"{world.namespace}/first"

    second = begin("second")
    eventually(lambda: second.metric("model_runtime_operator_contested") == 1, 15)
    world.apply(runtime(env=[{"name": "A", "value": "changed"}]))
    eventually(lambda: world.get("deployment", "adder")["metadata"]["generation"] == 2, 15)
    time.sleep(12)  # the second looks again in this time

    assert world.get("deployment", "adder")["metadata"]["generation"] == 2
    assert _image(world, "adder") == "runtime.example.com/first:1"
    [warning] = _warnings(world)
    assert warning == (
        f"the operator of Lease {world.namespace}/first manages it; "
        f"the operator of Lease {world.namespace}/second does not"
    )
    assert second.metric("model_runtime_operator_writes_total", kind="Deployment") == 0
    assert first.metric("model_runtime_operator_contested") == 0


@pytest.mark.parametrize("how", ["stopped", "killed", "lease deleted"])
def test_the_second_takes_over_once_the_first_is_gone(world: World, begin: Callable[[str], Operator], how: str) -> None:
    first = begin("first")
    world.apply(runtime())
    world.await_reason("adder", "Deploying")
    second = begin("second")
    eventually(lambda: second.metric("model_runtime_operator_contested") == 1, 15)

    first.stop() if how == "stopped" else first.kill()
    if how == "lease deleted":
        world.kube.call("DELETE", world.kube.path("lease", "first"))

    eventually(lambda: _image(world, "adder") == "runtime.example.com/second:1", 45)
    assert world.get("deployment", "adder")["metadata"]["annotations"][OPERATOR] == f"{world.namespace}/second"
    eventually(lambda: second.metric("model_runtime_operator_contested") == 0, 15)


def test_two_operators_that_begin_together_settle_with_few_writes(
    world: World, begin: Callable[[str], Operator]
) -> None:
    operators = [begin("first"), begin("second")]
    world.apply(*(runtime(f"m{number}") for number in range(10)))
    eventually(lambda: len(world.all("deployments")) == 10, 20)
    time.sleep(12)

    generations = {each["metadata"]["name"]: each["metadata"]["generation"] for each in world.all("deployments")}
    time.sleep(12)
    after = {each["metadata"]["name"]: each["metadata"]["generation"] for each in world.all("deployments")}
    assert after == generations, json.dumps([generations, after])
    assert max(generations.values()) <= 3
    assert sum(each.metric("model_runtime_operator_contested") for each in operators) == 10
