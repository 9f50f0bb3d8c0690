"""Many ModelRuntimes at once, with a scheduler and nodes of kwok: how fast, how much memory, how many calls; then silence.

Slow: `make operator-scale` runs it and prints what it measured (tests/operator/MEASURED.md keeps one such record).
"""

from __future__ import annotations

import concurrent.futures
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kube import Kube
from operating import CRD, Operator, eventually, runtime

from cluster.controlplane import ControlPlane

pytestmark = [pytest.mark.apiserver, pytest.mark.slow, pytest.mark.timeout(1200)]

AT_ONCE = 1000
RECONCILED_SECONDS = 60.0
MEMORY_MIB = 200
CALLS_EACH = 8.0
STEADY = 200
STEADY_SECONDS = 300.0


@pytest.fixture
def fleet() -> Iterator[ControlPlane]:
    """A control plane of its own with four large nodes, on which every pod is soon ready."""
    with ControlPlane(scheduler=True, kwok=True) as plane:
        plane.kubectl("apply", "--server-side", "-f", str(CRD))
        plane.kubectl(
            "wait", "--for=condition=Established", "crd/modelruntimes.runtime.hydrosphere.io", "--timeout=20s"
        )
        for number in range(4):
            _create_node(plane, f"node-{number}")
        yield plane


@pytest.fixture
def operator(fleet: ControlPlane, tmp_path: Path) -> Iterator[Operator]:
    started = Operator(fleet.kubeconfig, tmp_path / "operator.log", WATCH_NAMESPACES="")
    started.wait_ready()
    yield started
    started.kill()


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    def shown(line: str) -> None:
        with capsys.disabled():
            print(f"\n  {line}", end="")

    return shown


def test_a_thousand_at_once(fleet: ControlPlane, operator: Operator, show: Callable[[str], None]) -> None:
    kube = Kube(fleet, "default")
    calls, idle = _calls(operator), operator.memory_mib()

    began = time.monotonic()
    _create_all(kube, AT_ONCE)
    created = time.monotonic() - began
    eventually(lambda: _seen(operator) >= AT_ONCE, 300, lambda: _seen(operator), every=1)
    assert len(_with_status(kube)) == AT_ONCE
    reconciled, calls_reconciled = time.monotonic() - began, _calls(operator) - calls
    eventually(lambda: _available(operator) >= AT_ONCE, 600, lambda: _available(operator), every=1)
    assert len(_ready(kube)) == AT_ONCE
    ready, calls_ready = time.monotonic() - began, _calls(operator) - calls

    memory = operator.memory_mib()
    show(
        f"{AT_ONCE} ModelRuntimes created in {created:.1f} s; reconciled after {reconciled:.1f} s, all Ready after {ready:.1f} s"
    )
    early, late = calls_reconciled / AT_ONCE, calls_ready / AT_ONCE
    show(f"calls to the API server for each: {early:.2f} until reconciled, {late:.2f} until Ready")
    show(
        f"the machine: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; with its own control plane, scheduler and kwok"
    )
    show(f"memory of the operator: {idle} MiB at first, {memory} MiB at most; its CPU: {operator.cpu_seconds():.1f} s")
    assert reconciled < RECONCILED_SECONDS
    assert memory < MEMORY_MIB
    assert early <= CALLS_EACH


def test_nothing_is_written_in_steady_state(
    fleet: ControlPlane, operator: Operator, show: Callable[[str], None]
) -> None:
    kube = Kube(fleet, "default")
    _create_all(kube, STEADY)
    eventually(lambda: _available(operator) == STEADY, 300, lambda: _available(operator), every=1)
    time.sleep(5)
    before, written, cpu = _versions(kube), operator.writes, operator.cpu_seconds()

    time.sleep(STEADY_SECONDS)

    writes = operator.writes - written
    show(
        f"{STEADY} ModelRuntimes for {STEADY_SECONDS:.0f} s: {writes:.0f} writes, {operator.cpu_seconds() - cpu:.1f} s of CPU"
    )
    assert writes == 0
    assert _versions(kube) == before


def _create_node(plane: ControlPlane, name: str) -> None:
    room = {"cpu": "1000", "memory": "1000Gi", "pods": "2000"}
    node = {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"allocatable": room, "capacity": room},
    }  # fmt: skip
    Kube(plane, "default").call("POST", "/api/v1/nodes", node)


def _create_all(kube: Kube, count: int) -> None:
    path = kube.path("modelruntimes")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        done = [pool.submit(kube.call, "POST", path, runtime(f"m{number:04}")) for number in range(count)]
        for each in done:
            each.result()


def _all(kube: Kube, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = kube.call("GET", kube.path(kind), resourceVersion="0")["items"]
    return found


def _with_status(kube: Kube) -> list[str]:
    """Those whose status is about their generation."""
    return [
        each["metadata"]["name"]
        for each in _all(kube, "modelruntimes")
        if each["status"]["observedGeneration"] == each["metadata"]["generation"]
    ]


def _ready(kube: Kube) -> list[str]:
    return [
        each["metadata"]["name"]
        for each in _all(kube, "modelruntimes")
        if any(one["type"] == "Ready" and one["status"] == "True" for one in each["status"].get("conditions", ()))
    ]


def _seen(operator: Operator) -> float:
    """How many have a status, as the operator has it: asking the API server for all of them is what would slow it down."""
    known = operator.metric("model_runtime_operator_modelruntimes")
    return known - operator.metric("model_runtime_operator_modelruntimes", reason="Unseen")


def _available(operator: Operator) -> float:
    return operator.metric("model_runtime_operator_modelruntimes", reason="Available")


def _versions(kube: Kube) -> dict[str, str]:
    kinds = ("modelruntimes", "deployments", "services", "configmaps")
    items = [(kind, each["metadata"]) for kind in kinds for each in _all(kube, kind)]
    return {f"{kind}/{metadata['name']}": metadata["resourceVersion"] for kind, metadata in items}


def _calls(operator: Operator) -> float:
    return operator.metric("model_runtime_operator_api_calls_total")
