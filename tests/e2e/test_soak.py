"""The loss test: constant load through rollouts, scale-downs and deleted pods. What is lost, wrong or slow is counted.

`make soak` makes a million calls over a hundred rollouts; the everyday size is a hundred thousand over twenty.
"""

from __future__ import annotations

import json
import os
import time

import pytest
from living import DOUBLE, Place, doubler, seconds_since
from operating import eventually

pytestmark = [pytest.mark.node, pytest.mark.slow, pytest.mark.usefixtures("chart")]

CALLS = int(os.environ.get("SOAK_CALLS", "100000"))
ROLLOUTS = int(os.environ.get("SOAK_ROLLOUTS", "20"))
RATE = float(os.environ.get("SOAK_RATE", "250"))
SLOW_SHARE = 0.01  # calls that may take longer than a second, on a machine that also starts the pods; measured: 0.0001


@pytest.mark.timeout(0)
def test_no_call_is_lost_through_rollouts_and_scaling(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.apply(doubler(replicas=2))
    place.ready("doubler")
    began = time.monotonic()
    with place.load("doubler", calls=CALLS, clients=8, rate=RATE, until_told=True) as load:
        for number in range(ROLLOUTS):
            _roll(place, number)
            if number % 5 == 4:
                _scale_up_and_down(place)
        load.enough()
        account = load.account(CALLS / RATE + 600)
    with capsys.disabled():  # the numbers are what the test is for
        print("\n" + json.dumps({"rollouts": ROLLOUTS, "seconds": seconds_since(began), **account}))
    assert account["calls"] >= CALLS
    assert (account["lost"], account["wrong"]) == (0, 0), json.dumps(account)
    assert account["slow"] <= SLOW_SHARE * account["calls"], json.dumps(account)


@pytest.mark.timeout(300)
def test_pods_that_are_deleted_one_by_one_cost_no_call(place: Place) -> None:
    place.apply(doubler(replicas=3))
    place.ready("doubler")
    with place.load("doubler", calls=12000, clients=4, rate=200) as load:
        for pod in place.pod_names("doubler"):
            load.passed(500)
            place.kubectl("delete", "pod", pod, "--wait=false")
            eventually(lambda: place.get("modelruntime", "doubler")["status"]["readyReplicas"] == 3, 60)
        account = load.account()
    assert (account["lost"], account["wrong"]) == (0, 0), json.dumps(account)


def _roll(place: Place, number: int) -> None:
    place.patch("doubler", {"model": {"inline": {"src/func_main.py": f"# rollout {number}\n{DOUBLE}"}}})
    place.ready("doubler", 180)


def _scale_up_and_down(place: Place) -> None:
    for replicas in (4, 2):
        place.kubectl("scale", "modelruntime/doubler", f"--replicas={replicas}")
        assert place.ready("doubler", 180)["status"]["readyReplicas"] == replicas
