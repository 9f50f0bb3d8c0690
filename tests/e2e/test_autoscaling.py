"""An autoscaler and metrics-server on a real node: from one pod to four under load and back, and no call is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from living import Place, doubler
from operating import eventually

from cluster import extras
from cluster.access import Access

pytestmark = [pytest.mark.node, pytest.mark.timeout(900), pytest.mark.usefixtures("chart")]

BUSY = """
import time

def double(x):
    end = time.thread_time() + 0.002
    while time.thread_time() < end:
        pass
    return {"y": 2 * x}
"""
REQUEST = {"requests": {"cpu": "100m"}}  # a pod without calls takes a tenth of it, most of it for its probes


@pytest.fixture
def metered(node: Access) -> None:
    extras.metrics_server(node)


@pytest.mark.usefixtures("metered")
@pytest.mark.parametrize("own", [True, False], ids=["spec.autoscaling", "HorizontalPodAutoscaler of the ModelRuntime"])
def test_load_scales_from_one_to_four_and_back_and_loses_nothing(place: Place, own: bool) -> None:
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 20}}
    spec: dict[str, Any] = {"maxReplicas": 4, "targetCPUUtilization": 60, "behavior": behavior}
    place.apply(doubler(code=BUSY, resources=REQUEST, **({"autoscaling": spec} if own else {})))
    place.ready("doubler")
    if not own:
        place.apply(autoscaler(behavior))
    with place.load("doubler", calls=1000, rate=10, until_told=True, pod="load-light") as light:
        with place.load("doubler", calls=10000, rate=160, until_told=True) as heavy:
            eventually(lambda: ready(place) == 4, 300, lambda: place.kubectl("describe", "hpa"))
            heavy.enough()
            account = heavy.account()
        eventually(lambda: ready(place) == 1, 300, lambda: place.kubectl("describe", "hpa"))
        light.enough()
        light_account = light.account()
    assert (account["lost"], account["wrong"]) == (0, 0), json.dumps(account)
    assert (light_account["lost"], light_account["wrong"]) == (0, 0), json.dumps(light_account)


def ready(place: Place) -> int:
    """How many pods serve, once that is how many there are."""
    status = place.get("modelruntime", "doubler")["status"]
    return int(status["readyReplicas"]) if status["readyReplicas"] == status["replicas"] else 0


def autoscaler(behavior: dict[str, Any]) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": 60}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "mine"},
        "spec": {
            "scaleTargetRef": {
                "apiVersion": "runtime.hydrosphere.io/v1alpha1",
                "kind": "ModelRuntime",
                "name": "doubler",
            },
            "maxReplicas": 4,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            "behavior": behavior,
        },
    }
