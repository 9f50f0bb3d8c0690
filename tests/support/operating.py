"""The operator as a real program, and a namespace of a real API server as a person with kubectl sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kube import MERGE, Kube
from serving import free_port

from cluster.controlplane import ControlPlane

ROOT = Path(__file__).parent.parent.parent
CRD = ROOT / "helm" / "files" / "crd.yaml"
SAMPLES = ROOT / "manifests" / "samples"
IMAGE = "runtime.example.com/model-runtime:1"
CPU_REQUEST = {"requests": {"cpu": "100m"}}  # without one, no autoscaler can aim at a percentage of it


class Operator:
    """`python -m model_runtime_operator` with its log at hand."""

    def __init__(self, kubeconfig: Path, log: Path, **environment: str) -> None:
        self.port, self.log = free_port(), log
        variables = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "RUNTIME_IMAGE": IMAGE,
            "HTTP_PORT": str(self.port),
            "LEADER_ELECTION": "false",
            **environment,
        }
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "model_runtime_operator"], env=variables, stdout=stream, stderr=stream
            )

    def wait_ready(self, seconds: float = 30.0) -> None:
        eventually(lambda: self.probe("readyz") == 200, seconds)

    def probe(self, path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the metric over all series that have these labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        mine = [line for line in lines if line.startswith((f"{name}{{", f"{name} "))]
        return sum(
            float(line.rpartition(" ")[2])
            for line in mine
            if all(f'{key}="{value}"' in line for key, value in labels.items())
        )

    @property
    def writes(self) -> float:
        return self.metric("model_runtime_operator_writes_total")

    def await_quiet(self, silence: float = 3.0, seconds: float = 60.0) -> None:
        """Until it has written nothing for so long: what children were still to say has been said."""
        end = time.monotonic() + seconds
        writes, since = self.writes, time.monotonic()
        while time.monotonic() - since < silence:
            assert time.monotonic() < end, f"the operator is not quiet after {seconds:g} s"
            time.sleep(0.2)
            if self.writes != writes:
                writes, since = self.writes, time.monotonic()

    def memory_mib(self) -> int:
        """The most that the operator had in memory so far."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM"))

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


class World:
    """One namespace of the API server, as a person with kubectl sees it."""

    def __init__(self, api: ControlPlane, namespace: str) -> None:
        self.api, self.namespace, self.kube = api, namespace, Kube(api, namespace)

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        return self.api.kubectl("-n", self.namespace, *arguments, text=text)

    def apply(self, *objects: dict[str, Any]) -> None:
        for each in objects:
            self.kube.apply(each)

    def all(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.kube.call("GET", self.kube.path(kind))["items"]
        return found

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Raises Denied (404) where there is none."""
        found: dict[str, Any] = self.kube.call("GET", self.kube.path(kind, name))
        return found

    def create(self, item: dict[str, Any]) -> None:
        self.kube.call("POST", self.kube.path(item["kind"]), item)

    def names(self, kind: str) -> list[str]:
        return sorted(item["metadata"]["name"] for item in self.all(kind))

    def patch_status(self, kind: str, name: str, status: dict[str, Any]) -> None:
        self.kube.call("PATCH", self.kube.path(kind, name, "status"), {"status": status}, MERGE)

    def condition(self, name: str, kind: str) -> dict[str, Any]:
        conditions = (self.get("mr", name).get("status") or {}).get("conditions") or ()
        return next((each for each in conditions if each["type"] == kind), {})

    def reason(self, name: str) -> str:
        return str(self.condition(name, "Ready").get("reason", ""))

    def await_reason(self, name: str, word: str, seconds: float = 10.0) -> dict[str, Any]:
        """The Ready condition, once it says that word: within 10 s of the cluster knowing."""
        eventually(lambda: self.reason(name) == word, seconds, lambda: self.condition(name, "Ready"))
        return self.condition(name, "Ready")

    def pods(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        """The pods of that ModelRuntime, once there are so many."""

        def found() -> list[dict[str, Any]]:
            return [
                pod
                for pod in self.all("pods")
                if pod["metadata"]["labels"].get("runtime.hydrosphere.io/modelruntime") == name
            ]

        eventually(lambda: len(found()) >= count, 15)
        return found()

    def bind(self, pod: str) -> None:
        """Plays the scheduler. Endpoints of pods without a node are not published."""
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod},
            "target": {"kind": "Node", "name": self.namespace},
        }
        self.kube.call("POST", self.kube.path("pods", pod, "binding"), binding)

    def serve(self, name: str, count: int = 1) -> None:
        """Plays the kubelet: every pod of the ModelRuntime is running and ready."""
        for number, pod in enumerate(self.pods(name, count)):
            self.come_up(pod, f"198.18.0.{number + 10}")

    def come_up(self, pod: dict[str, Any], address: str) -> None:
        """Plays scheduler and kubelet: the pod is running and ready."""
        if "nodeName" not in pod["spec"]:
            self.bind(pod["metadata"]["name"])
        self.patch_status("pod", pod["metadata"]["name"], ready_status(address))

    def beat(self) -> None:
        """Plays the kubelet's heart: without it, the controller-manager gives the node up after 40 seconds."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now}
        path = f"/api/v1/nodes/{self.namespace}/status"
        self.kube.call("PATCH", path, {"status": {"conditions": [ready]}}, MERGE)

    def bury(self) -> None:
        """Plays the kubelet: the pods that are being deleted have ended."""
        ending = [pod["metadata"]["name"] for pod in self.all("pods") if "deletionTimestamp" in pod["metadata"]]
        if ending:
            self.kubectl("delete", "pod", *ending, "--force", "--grace-period=0", "--ignore-not-found")


def ready_status(ip: str) -> dict[str, Any]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    container = {
        "name": "runtime", "ready": True, "started": True, "restartCount": 0, "image": IMAGE, "imageID": "",
        "state": {"running": {"startedAt": now}}, "lastState": {},
    }  # fmt: skip
    kinds = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in kinds]
    return {
        "phase": "Running",
        "startTime": now,
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "conditions": conditions,
        "containerStatuses": [container],
    }


def eventually(
    check: Callable[[], Any], seconds: float = 10.0, shown: Callable[[], Any] | None = None, *, every: float = 0.1
) -> None:
    """Waits until the check holds; fails with what is shown."""
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds:g} s: {shown() if shown else check}")
        time.sleep(every)


def await_established(plane: ControlPlane, name: str) -> None:
    """Until a CustomResourceDefinition is served. `kubectl wait` and jsonpath fail where it has no conditions yet."""

    def is_established() -> bool:
        status = json.loads(plane.kubectl("get", "crd", name, "-o", "json")).get("status") or {}
        conditions = {each["type"]: each["status"] for each in status.get("conditions") or ()}
        return conditions.get("Established") == "True"

    eventually(is_established, 20)


def sample(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((SAMPLES / f"{name}.yaml").read_text()))


def runtime(name: str = "adder", **spec: Any) -> dict[str, Any]:
    """A small ModelRuntime."""
    field = {"shape": [-1], "type": "double"}
    return {
        "apiVersion": "runtime.hydrosphere.io/v1alpha1",
        "kind": "ModelRuntime",
        "metadata": {"name": name},
        "spec": {
            "contract": {"name": "predict", "inputs": {"x": field}, "outputs": {"y": field}},
            "model": {"inline": {"src/func_main.py": "def predict(x):\n    return {'y': x}\n"}},
            **spec,
        },
    }
