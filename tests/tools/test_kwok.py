"""Fake nodes: enough of them, and pods that do what they are told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.controlplane import ControlPlane

PODS = 200


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with ControlPlane(scheduler=True, kwok=True) as plane:
        plane.add_nodes(4)
        yield plane


@pytest.mark.apiserver
def test_two_hundred_pods_on_four_nodes_become_ready(plane: ControlPlane) -> None:
    _deploy(plane, "many", PODS)
    plane.kubectl("rollout", "status", "deployment/many", "--timeout=60s")

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
    plane.kubectl("rollout", "status", "deployment/slow", "--timeout=30s")

    assert time.monotonic() - begin > 2


@pytest.mark.apiserver
def test_deleted_pods_are_gone(plane: ControlPlane) -> None:
    _deploy(plane, "short", 3)
    plane.kubectl("rollout", "status", "deployment/short", "--timeout=30s")
    plane.kubectl("delete", "deployment", "short", "--cascade=foreground", "--timeout=30s")

    assert _pods(plane, "short") == []


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
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if found := [status for pod in _pods(plane, name) for status in pod["status"].get("containerStatuses", [])]:
            return found
        time.sleep(0.05)
    raise AssertionError(f"no pod of {name} has a container's status")
