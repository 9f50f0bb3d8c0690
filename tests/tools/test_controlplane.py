"""The control plane that other tests stand on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from environments import ROOT

from cluster.controlplane import ControlPlane

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
    control_plane.kubectl("wait", "--for=condition=Established", "crd/boxes.test.example.com", "--timeout=20s")

    control_plane.kubectl("apply", "-n", namespace, "-f", "-", text=BOX % ("good", 1, 2))
    with pytest.raises(subprocess.CalledProcessError) as refused:
        control_plane.kubectl("apply", "-n", namespace, "-f", "-", text=BOX % ("bad", 3, 2))

    assert "low must not be above high" in refused.value.stderr


@pytest.mark.apiserver
def test_the_controllers_work(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("create", "deployment", "web", "--image=none", "--replicas=2", "-n", namespace)
    end = time.monotonic() + 10
    pods: list[str] = []
    while len(pods) < 2 and time.monotonic() < end:
        pods = control_plane.kubectl("get", "pods", "-n", namespace, "-o", "name").split()
        time.sleep(0.1)

    assert len(pods) == 2


@pytest.mark.apiserver
def test_nothing_outlives_an_owner_that_is_killed(tmp_path: Path) -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'tools')!r})\n"
        "from cluster.controlplane import ControlPlane\n"
        "import time\n"
        "plane = ControlPlane(controllers=False); plane.start()\n"
        "print(*[process.pid for process in plane._processes.values()], flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    ) as owner:
        assert owner.stdout is not None
        pids = list(map(int, owner.stdout.readline().split()))
        owner.kill()
    end = time.monotonic() + 5
    while any(map(_runs, pids)) and time.monotonic() < end:
        time.sleep(0.05)

    assert len(pids) == 2
    assert [pid for pid in pids if _runs(pid)] == []


def _runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_control_planes_come_and_go_without_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ready = []
    for _ in range(20):
        with ControlPlane() as plane:
            ready.append(plane.times["ready"])
            pids = [process.pid for process in plane._processes.values()]
        assert [pid for pid in pids if _runs(pid)] == []

    print(f"\nready after {min(ready)} to {max(ready)} s")
    assert list(tmp_path.iterdir()) == []
