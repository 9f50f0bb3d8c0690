"""The control plane that other tests stand on: a real one, of which nothing stays, and as many as one likes side by side."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from environments import ROOT
from operating import eventually

from cluster import binaries
from cluster.controlplane import ControlPlane, ControlPlaneFailed, free_ports

GONE_SECONDS = 60.0  # a busy machine takes its time
CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boxes.test.example.com}
spec:
  group: test.example.com
  scope: Namespaced
  names: {kind: Box, plural: boxes, singular: box}
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              properties: {low: {type: integer}, high: {type: integer}}
              x-kubernetes-validations:
                - {rule: self.low <= self.high, message: low must not be above high}
"""
BOX = "apiVersion: test.example.com/v1\nkind: Box\nmetadata: {name: %s}\nspec: {low: %d, high: %d}\n"


@pytest.mark.apiserver
def test_a_rule_of_a_custom_resource_refuses_a_bad_object(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("apply", "-f", "-", text=CRD)
    control_plane.kubectl("wait", "--for=condition=Established", "crd/boxes.test.example.com", "--timeout=60s")

    control_plane.kubectl("apply", "-n", namespace, "-f", "-", text=BOX % ("good", 1, 2))
    with pytest.raises(subprocess.CalledProcessError) as refused:
        control_plane.kubectl("apply", "-n", namespace, "-f", "-", text=BOX % ("bad", 3, 2))

    assert "low must not be above high" in refused.value.stderr


@pytest.mark.apiserver
def test_the_controllers_work(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("create", "deployment", "web", "--image=none", "--replicas=2", "-n", namespace)

    eventually(lambda: len(control_plane.kubectl("get", "pods", "-n", namespace, "-o", "name").split()) == 2, 60)


@pytest.mark.apiserver
def test_the_kubeconfig_is_for_its_owner_only(control_plane: ControlPlane) -> None:
    assert control_plane.kubeconfig.stat().st_mode & 0o777 == 0o600


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        yield other.getsockname()[1]


class LateAtFirst:
    """Hands out free ports, but at first one that somebody else has taken meanwhile."""

    def __init__(self, taken: int) -> None:
        self._taken = [taken]

    def __call__(self, count: int) -> list[int]:
        ports = [*self._taken, *free_ports(count)][:count]
        self._taken = []
        return ports


@pytest.mark.apiserver
def test_a_port_that_is_taken_meanwhile_is_another_one_the_next_time() -> None:
    with taken_port() as port, ControlPlane(controllers=False, ports=LateAtFirst(port)) as plane:
        assert plane.get("/readyz") == "ok"


@pytest.mark.apiserver
def test_what_never_gets_a_port_says_so_and_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with taken_port() as port, pytest.raises(ControlPlaneFailed, match="address already in use"):
        ControlPlane(controllers=False, ports=lambda count: [port] * count).start()

    assert list(tmp_path.iterdir()) == []


class Command:
    """`make apiserver` as a process of its own, with a temporary folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.kubeconfig, self.temporary = folder / "kubeconfig", folder / "tmp"
        self.temporary.mkdir(parents=True)
        arguments = ["apiserver", "--no-controllers", f"--kubeconfig={self.kubeconfig}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tools"), "TMPDIR": str(self.temporary)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cluster", *arguments], stdout=subprocess.PIPE, text=True, env=environment
        )

    def ready(self) -> None:
        """Returns when it says so."""
        assert self.process.stdout is not None
        assert "ready after" in self.process.stdout.readline()
        server = json.loads(self.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
        self.port = int(server.rpartition(":")[2])
        self.programs = _below(self.process.pid)

    def end(self, number: int) -> int:
        with self.process:
            self.process.send_signal(number)
        return self.process.returncode

    def left(self) -> list[Any]:
        """What there still is of it."""
        running = [pid for pid in self.programs if _runs(pid)]
        files = [path for path in (self.kubeconfig, *self.temporary.iterdir()) if path.exists()]
        return [*running, *files, *([self.port] if _listens(self.port) else [])]


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[list[Command]]:
    """Two of them, that are started at the same moment."""
    pair = [Command(tmp_path / name) for name in ("one", "other")]
    for command in pair:
        command.ready()
    yield pair
    for command in pair:
        command.end(signal.SIGKILL)


@pytest.mark.apiserver
@pytest.mark.timeout(300)
def test_two_at_once_do_not_meet_and_nothing_stays_however_they_end(commands: list[Command]) -> None:
    first, second = commands
    for command in commands:
        assert len(command.programs) == 3, "etcd, the API server, and the watcher of their files"
        assert command.left() != []
    _kubectl(first, "create", "namespace", "mine")

    assert "mine" not in _kubectl(second, "get", "namespaces")
    assert first.end(signal.SIGINT) == 0  # Ctrl-C
    eventually(lambda: first.left() == [], GONE_SECONDS, first.left)
    assert "default" in _kubectl(second, "get", "namespaces")
    assert second.end(signal.SIGKILL) == -signal.SIGKILL
    eventually(lambda: second.left() == [], GONE_SECONDS, second.left)


@pytest.mark.apiserver
@pytest.mark.timeout(900)
def test_twenty_come_and_go_without_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def come_and_go(_: int) -> tuple[float, list[int], int]:
        with ControlPlane() as plane:
            return plane.times["ready"], [process.pid for process in plane._processes.values()], plane.port

    with ThreadPoolExecutor(2) as pool:
        ready, pids, ports = zip(*pool.map(come_and_go, range(20)), strict=True)
    print(f"\nready after {min(ready)} to {max(ready)} s, two at a time")

    assert list(tmp_path.iterdir()) == []
    assert [pid for group in pids for pid in group if _runs(pid)] == []
    assert [port for port in ports if _listens(port)] == []


def _kubectl(command: Command, *arguments: str) -> str:
    kubectl = [str(binaries.find(["kubectl"])["kubectl"]), f"--kubeconfig={command.kubeconfig}"]
    environment = {**os.environ, "KUBECACHEDIR": str(command.temporary.parent / "cache")}
    return subprocess.run([*kubectl, *arguments], capture_output=True, text=True, check=True, env=environment).stdout


def _below(pid: int) -> list[int]:
    children = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for group in children for child in group]


def _runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
