"""The operator under test: the real program in a process of its own, against the real API server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from operating import CRD, Operator, World, await_established

from cluster.controlplane import ControlPlane


@pytest.fixture(scope="session")
def api(control_plane: ControlPlane) -> ControlPlane:
    """The API server with our CRD."""
    control_plane.kubectl("apply", "--server-side", "-f", str(CRD))
    await_established(control_plane, "modelruntimes.runtime.hydrosphere.io")
    return control_plane


@pytest.fixture
def start(api: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Callable[..., Operator]]:
    """Starts operators of this test's namespace; the rest are killed at its end."""
    running: list[Operator] = []

    def starts(kubeconfig: Path | None = None, **environment: str) -> Operator:
        chosen = {"WATCH_NAMESPACES": namespace, **environment}
        operator = Operator(kubeconfig or api.kubeconfig, tmp_path / f"operator-{len(running)}.log", **chosen)
        running.append(operator)
        return operator

    yield starts
    for operator in running:
        if operator.process.poll() is None:
            operator.kill()


@pytest.fixture
def operator(start: Callable[..., Operator]) -> Operator:
    started = start()
    started.wait_ready()
    return started


@pytest.fixture
def world(api: ControlPlane, namespace: str) -> Iterator[World]:
    """A namespace, and a node of the same name, which is given up after 40 seconds without `world.beat()`."""
    api.kubectl(
        "create", "-f", "-", text=f'{{"apiVersion": "v1", "kind": "Node", "metadata": {{"name": "{namespace}"}}}}'
    )
    found = World(api, namespace)
    found.beat()
    yield found
    api.kubectl("delete", "node", namespace, "--wait=false")
