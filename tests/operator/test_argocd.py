"""Argo CD's health of a ModelRuntime: its Lua, run by Lua, agrees with the kstatus library on every mixture of conditions."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa import LuaRuntime

from cluster import binaries

FILE = Path(__file__).parent.parent.parent / "manifests" / "argocd-health.yaml"
HEALTH = {"Current": "Healthy", "InProgress": "Progressing", "Failed": "Degraded"}


def health(item: dict[str, Any]) -> dict[str, str]:
    [script] = yaml.safe_load(FILE.read_text())["data"].values()
    lua = LuaRuntime(unpack_returned_tuples=True)
    function = lua.eval(f"function(obj) {script} end")
    return dict(function(lua.table_from(item, recursive=True)))


def made(reason: str = "Deploying", observed: int = 1, **conditions: str) -> dict[str, Any]:
    listed = [
        {"type": kind, "status": value, "reason": reason, "message": f"{kind} says"}
        for kind, value in conditions.items()
    ]
    return {
        "apiVersion": "runtime.hydrosphere.io/v1alpha1",
        "kind": "ModelRuntime",
        "metadata": {"name": "x", "generation": 1},
        "status": {"observedGeneration": observed, "conditions": listed},
    }


@pytest.mark.apiserver
def test_the_lua_agrees_with_kstatus_on_every_mixture_of_conditions() -> None:
    # The order in which the operator writes them; see status.conditions.
    mixtures = [
        made(observed=observed, Ready=ready, Stalled=stalled, Reconciling=reconciling)
        for observed, ready, stalled, reconciling in itertools.product(
            (-1, 0, 1), ("True", "False", "Unknown"), ("True", "False"), ("True", "False")
        )
    ]
    program = binaries.find(["kstatus"])["kstatus"]
    done = subprocess.run([program], input=json.dumps(mixtures), capture_output=True, text=True, check=True)
    judged = [HEALTH[line.partition("\t")[0]] for line in done.stdout.splitlines()]
    assert [health(item)["status"] for item in mixtures] == judged
    assert set(judged) == {"Healthy", "Progressing", "Degraded"}


def test_a_new_object_is_progressing_and_a_paused_one_suspended() -> None:
    assert health({"metadata": {"generation": 1}})["status"] == "Progressing"
    assert health({"metadata": {"generation": 1}, "status": {"observedGeneration": -1}})["status"] == "Progressing"
    paused = health(made("Paused", Ready="False", Stalled="False", Reconciling="False"))
    assert paused == {"status": "Suspended", "message": "Paused: Ready says"}


def test_the_message_carries_the_reason() -> None:
    stalled = health(made("ImagePullFailed", Ready="False", Stalled="True"))
    assert stalled == {"status": "Degraded", "message": "ImagePullFailed: Stalled says"}
