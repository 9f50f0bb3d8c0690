"""What goes wrong on a real node: the old pods go on serving, the status says why in the cluster's own words, and a fix heals."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from living import DOUBLE, Place, doubler
from operating import eventually

pytestmark = [pytest.mark.node, pytest.mark.timeout(300), pytest.mark.usefixtures("chart")]

HOG = "HELD = b'x' * 10**9\n" + DOUBLE
FAILURES: dict[str, tuple[dict[str, Any], str, str]] = {
    "a model that cannot be imported": (
        {"model": {"inline": {"src/func_main.py": "import nonesuch\n"}}},
        "ModelImportFailed",
        "nonesuch",
    ),
    "a function of another name": (
        {"model": {"inline": {"src/func_main.py": "def triple(x):\n    return {'y': 3 * x}\n"}}},
        "FunctionMissing",
        "double",
    ),
    "a warm-up that fails": (
        {"model": {"inline": {"src/func_main.py": "def double(x):\n    raise OSError('no weights')\n"}}},
        "WarmupFailed",
        "no weights",
    ),
    "an image that does not exist": ({"image": "localhost:5000/nonesuch:1"}, "ImagePullFailed", "nonesuch:1"),
    "more CPUs than any node has": ({"resources": {"requests": {"cpu": "1000"}}}, "Unschedulable", "Insufficient cpu"),
    "too little memory": (
        {"resources": {"limits": {"memory": "256Mi"}}, "model": {"inline": {"src/func_main.py": HOG}}},
        "OutOfMemory",
        "",
    ),
    "a Secret that is not there": (
        {"env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "nonesuch", "key": "token"}}}]},
        "SecretMissing",
        "nonesuch",
    ),
    "requirements that cannot be had": ({"requirements": ["nonesuch==0.0.0"]}, "RequirementsFailed", "nonesuch"),
    "a volume claim that is not there": (
        {"model": {"inline": None, "persistentVolumeClaim": {"claimName": "nonesuch"}}},
        "SourceNotFound",
        "nonesuch",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", FAILURES)
def test_a_bad_change_is_told_while_the_old_pods_serve_and_a_fix_heals(place: Place, what: str) -> None:
    change, reason, text = FAILURES[what]
    place.caller()
    place.apply(doubler())
    place.ready("doubler")
    [served] = place.pod_names("doubler")

    place.patch("doubler", change)

    condition = place.await_reason("doubler", reason, 120)
    assert text in condition["message"], condition
    assert condition["status"] == "False"
    assert place.condition("doubler", "Available")["status"] == "True"
    assert served in place.pod_names("doubler")
    assert place.predict("doubler", "x=[21]") == {"y": [42]}
    place.kubectl("patch", "modelruntime", "doubler", "--type=json", "-p", _back(change))
    place.ready("doubler", 120)
    assert place.predict("doubler", "x=[2]") == {"y": [4]}


def _back(change: dict[str, Any]) -> str:
    """A JSON patch that undoes the change."""
    operations: list[dict[str, Any]] = [{"op": "remove", "path": f"/spec/{key}"} for key in change if key != "model"]
    if "model" in change:
        model = {"inline": {"src/func_main.py": DOUBLE}}
        operations.append({"op": "replace", "path": "/spec/model", "value": model})
    return json.dumps(operations)


def test_a_crash_of_the_model_costs_its_own_call_and_is_counted(place: Place) -> None:
    place.caller()
    code = "import os\n\n\ndef double(x):\n    if x[0] == 13:\n        os._exit(3)\n    return {'y': 2 * x}\n"
    place.apply(doubler(code=code))
    place.ready("doubler")
    [pod] = place.pod_names("doubler")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        place.predict("doubler", "x=[13]")
    assert "INTERNAL" in failed.value.stderr
    eventually(lambda: place.predict("doubler", "x=[2]") == {"y": [4]}, 30)
    assert place.pod_names("doubler") == [pod]
    assert place.get("pod", pod)["status"]["containerStatuses"][0]["restartCount"] == 0
