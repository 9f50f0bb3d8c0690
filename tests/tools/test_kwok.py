"""Fake nodes: enough of them, and pods that do what they are told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from operating import eventually

from cluster.controlplane import ControlPlane

PODS = 200


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with ControlPlane(scheduler=True, kwok=True) as plane:
        plane.add_nodes(4)
        yield plane


@pytest.mark.apiserver
@pytest.mark.timeout(300)
def test_two_hundred_pods_on_four_nodes_become_ready(plane: ControlPlane) -> None:
    _deploy(plane, "many", PODS)
    plane.kubectl("rollout", "status", "deployment/many", "--timeout=180s")

    pods = _pods(plane, "many")
    assert len({pod["status"]["podIP"] for pod in pods}) == PODS
    assert {pod["spec"]["nodeName"] for pod in pods} == {f"fake-{number}" for number in range(4)}


@pytest.mark.apiserver
def test_a_pod_fails_as_told(plane: ControlPlane) -> None:
    _deploy(plane, "broken", 1, {"play": "fail", "play/exit-code": "4", "play/message": "no func_main"})
    [container] = _containers(plane, "broken")

    assert container["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert container["lastState"]["terminated"]["exitCode"] == 4
    assert container["lastState"]["terminated"]["message"] == "no func_main"


@pytest.mark.apiserver
def test_a_pod_hangs_for_the_reason_told(plane: ControlPlane) -> None:
    _deploy(plane, "stuck", 1, {"play": "hang", "play/reason": "ImagePullBackOff", "play/message": "no such image"})
    [container] = _containers(plane, "stuck")

    assert container["state"]["waiting"] == {"reason": "ImagePullBackOff", "message": "no such image"}
    assert "lastState" not in container or container["lastState"] == {}


@pytest.mark.apiserver
def test_a_pod_takes_its_time(plane: ControlPlane) -> None:
    begin = time.monotonic()
    _deploy(plane, "slow", 1, {"play/delay": "2s"})
    plane.kubectl("rollout", "status", "deployment/slow", "--timeout=60s")

    assert time.monotonic() - begin > 2


@pytest.mark.apiserver
def test_deleted_pods_are_gone(plane: ControlPlane) -> None:
    _deploy(plane, "short", 3)
    plane.kubectl("rollout", "status", "deployment/short", "--timeout=60s")
    plane.kubectl("delete", "deployment", "short", "--cascade=foreground", "--timeout=60s")

    assert _pods(plane, "short") == []


@pytest.mark.apiserver
def test_a_node_fails_as_told_and_recovers(plane: ControlPlane) -> None:
    plane.kubectl("annotate", "node", "fake-0", "play=fail", "play/reason=NetworkUnavailable", "play/message=no cable")
    plane.kubectl("wait", "--for=condition=Ready=false", "node/fake-0", "--timeout=60s")
    condition = _ready(plane, "fake-0")
    plane.kubectl("annotate", "node", "fake-0", "play-")
    plane.kubectl("wait", "--for=condition=Ready", "node/fake-0", "--timeout=60s")

    assert (condition["reason"], condition["message"]) == ("NetworkUnavailable", "no cable")


@pytest.mark.apiserver
def test_a_node_that_hangs_gets_no_pod(plane: ControlPlane) -> None:
    plane.kubectl("annotate", "node", "fake-1", "play=hang")
    eventually(lambda: _taints(plane, "fake-1"), 60)
    condition = _ready(plane, "fake-1")
    _deploy(plane, "elsewhere", 12)
    plane.kubectl("rollout", "status", "deployment/elsewhere", "--timeout=60s")
    plane.kubectl("annotate", "node", "fake-1", "play-")

    assert (condition["status"], condition["reason"]) == ("Unknown", "NodeStatusUnknown")
    assert "fake-1" not in {pod["spec"]["nodeName"] for pod in _pods(plane, "elsewhere")}


def _ready(plane: ControlPlane, node: str) -> dict[str, Any]:
    conditions = plane.get(f"/api/v1/nodes/{node}")["status"]["conditions"]
    [ready] = [condition for condition in conditions if condition["type"] == "Ready"]
    return dict(ready)


def _taints(plane: ControlPlane, node: str) -> set[str]:
    """What keeps the scheduler from placing pods there."""
    taints = plane.get(f"/api/v1/nodes/{node}")["spec"].get("taints", [])
    return {taint["key"] for taint in taints if taint["effect"] == "NoSchedule"}


def _deploy(plane: ControlPlane, name: str, replicas: int, play: dict[str, str] | None = None) -> None:
    labels = {"app": name}
    container = {"name": "c", "image": "example.test/c:1"}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": play or {}},
                "spec": {"containers": [container]},
            },
        },
    }
    plane.kubectl("apply", "--filename=-", text=json.dumps(deployment))


def _pods(plane: ControlPlane, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = plane.get(f"/api/v1/namespaces/default/pods?labelSelector=app%3D{name}")["items"]
    return found


def _containers(plane: ControlPlane, name: str) -> list[dict[str, Any]]:
    """The container statuses of the pods, once there are some."""
    found: list[dict[str, Any]] = []

    def some() -> bool:
        found[:] = [status for pod in _pods(plane, name) for status in pod["status"].get("containerStatuses", [])]
        return bool(found)

    eventually(some, 60)
    return found
