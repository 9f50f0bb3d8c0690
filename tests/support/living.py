"""A namespace of a real cluster in which things really run: pods that call, load that is counted, models that answer."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from operating import eventually

from cluster.access import Access

E2E = Path(__file__).parent.parent / "e2e"
DOUBLE = "def double(x):\n    return {'y': 2 * x}\n"
CALLER = "caller"
_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
_HAS_STARTED = "{.status.containerStatuses[0].state}"


class Place:
    """One namespace, as a person with kubectl and a pod in it sees it."""

    def __init__(self, access: Access, namespace: str) -> None:
        self.access, self.namespace = access, namespace

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        return self.access.kubectl("-n", self.namespace, *arguments, text=text)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Server-side, so that what an autoscaler or `kubectl scale` said stays said."""
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("apply", "--server-side", "-f", "-", text=items)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return found

    # Models -----------------------------------------------------------------------------------------------------------

    def ready(self, name: str, seconds: float = 90.0) -> dict[str, Any]:
        """The ModelRuntime, once its latest generation is rolled out and serves."""
        eventually(lambda: self._is_ready(name), seconds, lambda: (self._told(name), self.kubectl("get", "pods")))
        return self.get("modelruntime", name)

    def _is_ready(self, name: str) -> bool:
        item = self.get("modelruntime", name)
        conditions = {each["type"]: each for each in (item.get("status") or {}).get("conditions") or ()}
        ready = conditions.get("Ready") or {}
        return ready.get("status") == "True" and ready.get("observedGeneration") == item["metadata"]["generation"]

    def condition(self, name: str, kind: str) -> dict[str, Any]:
        conditions = (self.get("modelruntime", name).get("status") or {}).get("conditions") or ()
        return next((each for each in conditions if each["type"] == kind), {})

    def await_reason(self, name: str, word: str, seconds: float) -> dict[str, Any]:
        """The Ready condition, once it says that word."""
        eventually(lambda: self.condition(name, "Ready").get("reason") == word, seconds, lambda: self._told(name))
        return self.condition(name, "Ready")

    def _told(self, name: str) -> list[str]:
        conditions = (self.get("modelruntime", name).get("status") or {}).get("conditions") or ()
        return [f"{each['type']}={each['status']} {each['reason']}: {each['message']}" for each in conditions]

    def pod_names(self, name: str) -> list[str]:
        selector = f"runtime.hydrosphere.io/modelruntime={name}"
        return sorted(self.kubectl("get", "pods", "-l", selector, "-o", "jsonpath={.items[*].metadata.name}").split())

    def patch(self, name: str, spec: dict[str, Any]) -> None:
        self.kubectl("patch", "modelruntime", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def endpoint(self, name: str) -> str:
        return str(self.get("modelruntime", name)["status"]["endpoint"])

    # Calls ------------------------------------------------------------------------------------------------------------

    def caller(self) -> None:
        """A pod from which the models of this namespace are called."""
        self.apply(self._pod(CALLER, ["sleep", "3600"], {}))
        self.kubectl("wait", "--for=condition=Ready", f"pod/{CALLER}", "--timeout=60s")

    def predict(self, name: str, *inputs: str) -> dict[str, Any]:
        """The answer that a pod gets by the Service's DNS name."""
        command = ("python", "-m", "model_runtime", "predict", self.endpoint(name), *inputs)
        answer: dict[str, Any] = json.loads(self.kubectl("exec", CALLER, "--", *command))
        return answer

    @contextlib.contextmanager
    def forwarded(self, target: str, port: int) -> Iterator[str]:
        """`kubectl port-forward`: HOST:PORT here that ends there."""
        command = self.access.command("-n", self.namespace, "port-forward", target, f":{port}")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self.access.environment()) as forward:
            assert forward.stdout is not None
            found = re.match(r"Forwarding from (\S+) ", forward.stdout.readline())
            try:
                assert found, "kubectl port-forward forwards nothing"
                yield found[1]
            finally:
                forward.terminate()

    # Load -------------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def load(
        self,
        name: str,
        *,
        calls: int,
        clients: int = 4,
        rate: float = 200.0,
        until_told: bool = False,
        retries: bool = False,
        pod: str = "",
        secret: str = "",
    ) -> Iterator[Load]:
        """Constant load on a ModelRuntime by its Service, from a pod, until all calls are made (and it was told `enough`).

        `secret` holds ca.crt, and where the client shows a certificate tls.crt and tls.key: then it speaks TLS.
        """
        pod = pod or f"load-{name}"
        self.kubectl("delete", "pod", pod, "--ignore-not-found", "--now")
        self.kubectl("delete", "configmap", pod, "--ignore-not-found")
        self.kubectl("create", "configmap", pod, f"--from-file={E2E / 'load.py'}")
        variables = {"TARGET": self.endpoint(name), "CALLS": calls // clients, "CLIENTS": clients, "RATE": rate}
        variables |= {"UNTIL_TOLD": "yes"} if until_told else {}
        variables |= {"RETRIES": "yes"} if retries else {}
        variables |= {"TLS": "/tls"} if secret else {}
        volumes: list[dict[str, Any]] = [{"name": "program", "configMap": {"name": pod}}]
        volumes += [{"name": "tls", "secret": {"secretName": secret}}] if secret else []
        self.apply(self._pod(pod, ["python", "/program/load.py"], variables, *volumes))
        load = Load(self, pod)
        eventually(lambda: load.counts()["calls"] > 0, 60, lambda: self.kubectl("describe", "pod", pod))
        yield load

    def _pod(
        self, name: str, command: list[str], variables: dict[str, Any], *volumes: dict[str, Any]
    ) -> dict[str, Any]:
        mounts = [{"name": each["name"], "mountPath": f"/{each['name']}", "readOnly": True} for each in volumes]
        container = {
            "name": "main",
            "image": self.access.image("runtime"),
            "command": command,
            "env": [{"name": key, "value": str(value)} for key, value in {"HOME": "/tmp", **variables}.items()],
            "securityContext": _RESTRICTED,
            "volumeMounts": [*mounts, {"name": "tmp", "mountPath": "/tmp"}],
        }
        spec = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": [*volumes, {"name": "tmp", "emptyDir": {}}],
        }
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


class Load:
    """A pod that calls; `counts` so far, or the whole account once it is `done`."""

    def __init__(self, place: Place, pod: str) -> None:
        self._place, self._pod = place, pod

    def counts(self) -> dict[str, Any]:
        try:
            lines = self._place.kubectl("logs", self._pod, "--tail=1").splitlines()
        except subprocess.CalledProcessError:  # it has not started yet
            lines = []
        counts: dict[str, Any] = json.loads(lines[0]) if lines and lines[0].startswith("{") else {"calls": 0}
        return counts

    def passed(self, calls: int, seconds: float = 120.0) -> None:
        """Returns when so many more calls have been made."""
        wanted = self.counts()["calls"] + calls
        eventually(lambda: self.counts()["calls"] >= wanted or "done" in self.counts(), seconds, self.counts)

    def enough(self) -> None:
        """Ends the load once all calls are made; without it they go on."""
        self._place.kubectl("exec", self._pod, "--", "touch", "/tmp/enough")

    @property
    def is_done(self) -> bool:
        return "done" in self.counts()

    def account(self, seconds: float = 600.0) -> dict[str, Any]:
        eventually(lambda: self.is_done, seconds, lambda: self._place.kubectl("logs", self._pod, "--tail=5"))
        return self.counts()


def doubler(name: str = "doubler", code: str = DOUBLE, **spec: Any) -> dict[str, Any]:
    """A ModelRuntime that doubles whole numbers."""
    field = {"shape": [-1], "type": "int64"}
    return {
        "apiVersion": "runtime.hydrosphere.io/v1alpha1",
        "kind": "ModelRuntime",
        "metadata": {"name": name},
        "spec": {
            "contract": {"name": "double", "inputs": {"x": field}, "outputs": {"y": field}},
            "model": {"inline": {"src/func_main.py": code}},
            **spec,
        },
    }


def seconds_since(began: float) -> float:
    return round(time.monotonic() - began, 1)
