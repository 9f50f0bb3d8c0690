"""Fleet defaults: merged under each spec, in force from one change of a ModelRuntime to the next, shown in the status."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from operating import CRD, Operator, World, eventually, runtime

from model_runtime_operator import defaults, names


@pytest.mark.parametrize(
    ("spec", "default", "expected"),
    [
        ({}, {"nodeSelector": {"a": "1"}}, {"nodeSelector": {"a": "1"}}),
        ({"nodeSelector": {"a": "2"}}, {"nodeSelector": {"a": "1", "b": "1"}}, {"nodeSelector": {"a": "2", "b": "1"}}),
        (
            {"resources": {"limits": {"cpu": 1}}},
            {"resources": {"limits": {"memory": "1Gi"}, "requests": {"cpu": 1}}},
            {"resources": {"limits": {"cpu": 1, "memory": "1Gi"}, "requests": {"cpu": 1}}},
        ),
        (
            {"env": [{"name": "A", "value": "mine"}]},
            {"env": [{"name": "A", "value": "theirs"}, {"name": "B", "value": "b"}]},
            {"env": [{"name": "B", "value": "b"}, {"name": "A", "value": "mine"}]},
        ),
        ({"tolerations": []}, {"tolerations": [{"key": "gpu"}]}, {"tolerations": []}),
        ({"nodeSelector": None}, {"nodeSelector": {"a": "1"}}, {"nodeSelector": None}),
        ({"replicas": 2}, {}, {"replicas": 2}),
    ],
)
def test_the_spec_wins_over_the_defaults(
    spec: dict[str, Any], default: dict[str, Any], expected: dict[str, Any]
) -> None:
    before = json.dumps([spec, default])
    assert defaults.merged(spec, default) == expected
    assert json.dumps([spec, default]) == before


def test_no_field_that_may_have_a_default_of_the_fleet_has_one_of_the_schema() -> None:
    """The API server would fill it in first."""
    [version] = yaml.safe_load(CRD.read_text())["spec"]["versions"]
    fields = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]

    assert set(fields) >= defaults.ALLOWED
    assert [name for name in defaults.ALLOWED if "default" in fields[name]] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected JSON"),
        ("[]", "expected an object of spec fields, got list"),
        ('{"replicas": 2, "model": {}}', "got model, replicas"),
    ],
)
def test_defaults_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(defaults.InvalidDefaults, match=message):
        defaults.read(text)


@pytest.mark.parametrize("recorded", [None, "", "{", "[]", "7"])
def test_a_record_that_cannot_be_read_counts_for_nothing(recorded: str | None) -> None:
    annotations = {} if recorded is None else {names.DEFAULTS: recorded}
    assert defaults.recorded({"metadata": {"annotations": annotations}}) is None
    assert defaults.recorded(None) is None
    chosen = {"nodeSelector": {"a": "1"}}
    assert defaults.recorded({"metadata": {"annotations": defaults.record(chosen)}}) == chosen


def _pod(world: World) -> dict[str, Any]:
    return dict(world.get("deployment", "adder")["spec"]["template"]["spec"])


def _status(world: World) -> dict[str, Any] | None:
    return world.get("mr", "adder").get("status", {}).get("defaults")


@pytest.mark.apiserver
def test_new_defaults_wait_for_the_next_change_and_are_announced(world: World, start: Callable[..., Operator]) -> None:
    def begin(**chosen: Any) -> Operator:
        operator = start(world.api.kubeconfig, MODEL_RUNTIME_DEFAULTS=json.dumps(chosen))
        operator.wait_ready()
        return operator

    operator = begin()
    world.apply(runtime())
    world.await_reason("adder", "Deploying")
    assert _status(world) is None
    operator.stop()

    operator = begin(nodeSelector={"pool": "a"}, env=[{"name": "A", "value": "default"}])
    eventually(lambda: _status(world) == {"applied": {}, "pending": True})
    operator.await_quiet()
    assert "nodeSelector" not in _pod(world)
    assert world.get("deployment", "adder")["metadata"]["generation"] == 1
    world.kubectl("scale", "modelruntime/adder", "--replicas=3")  # as an autoscaler does: no reason to roll either
    eventually(lambda: world.get("deployment", "adder")["spec"]["replicas"] == 3)
    assert "nodeSelector" not in _pod(world)
    assert _status(world) == {"applied": {}, "pending": True}

    world.apply(runtime(env=[{"name": "B", "value": "own"}]))
    eventually(lambda: _pod(world).get("nodeSelector") == {"pool": "a"})
    given = {each["name"]: each.get("value") for each in _pod(world)["containers"][0]["env"]}
    assert (given["A"], given["B"]) == ("default", "own")
    applied = {"nodeSelector": {"pool": "a"}, "env": [{"name": "A", "value": "default"}]}
    eventually(lambda: _status(world) == {"applied": applied, "pending": False})
    operator.stop()

    operator = begin(nodeSelector={"pool": "b"})
    eventually(lambda: (_status(world) or {}).get("pending") is True)
    operator.await_quiet()
    assert _pod(world)["nodeSelector"] == {"pool": "a"}
    world.kubectl("annotate", "deployment/adder", f"{names.DEFAULTS}-")  # how a person adopts them without a change
    eventually(lambda: _pod(world)["nodeSelector"] == {"pool": "b"})
    eventually(lambda: _status(world) == {"applied": {"nodeSelector": {"pool": "b"}}, "pending": False})
