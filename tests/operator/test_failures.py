# ruff: noqa: E501 - the table is read row by row
"""The failure catalogue: whatever keeps a model from serving is what `Ready` says, in its word and with the real text.

Where the API server, its admission, a quota or the controller-manager can be the cause, they are. What a container says at its end
is said by the real runtime. The kubelet's and the scheduler's own words are written into the pod as they write them.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from operating import Operator, World, eventually, runtime
from serving import ECHO, ECHO_CONTRACT, Program, free_port, model_directory

from cluster.controlplane import ControlPlane
from model_runtime_operator.vocabulary import REASONS

pytestmark = pytest.mark.apiserver

KNOWN_SECONDS = 10.0  # from the cluster's knowing to ours
CODE = {"src/func_main.py": "def predict(x):\n    return {'y': x}\n"}
HTTP = {"http": {"url": "https://models.example.com/m.tar.gz", "sha256": "a" * 64}}


class Town(World):
    """A namespace that enforces Pod Security's `restricted`, with the means to play kubelet and scheduler."""

    def pod(self, name: str) -> str:
        return str(self.pods(name)[0]["metadata"]["name"])

    def say(self, name: str, **status: Any) -> None:
        self.patch_status("pod", self.pod(name), {"phase": "Pending", **status})

    def container(
        self, name: str, state: dict[str, Any], *, last: dict[str, Any] | None = None, step: str = ""
    ) -> None:
        """The state of the runtime's container, or of the init step."""
        status = {
            "name": step or "runtime",
            "ready": False,
            "restartCount": 1,
            "image": "i",
            "imageID": "",
            "state": state,
            "lastState": last or {},
        }
        self.say(name, **{"initContainerStatuses" if step else "containerStatuses": [status]})

    def end(self, name: str, message: str, *, code: int = 1, reason: str = "Error", step: str = "") -> None:
        """The container has ended with that message, and waits to be started again."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        ended = {"exitCode": code, "reason": reason, "message": message, "startedAt": now, "finishedAt": now}
        wait = {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}
        self.container(name, {"waiting": wait}, last={"terminated": ended}, step=step)

    def warn(self, name: str, reason: str, message: str) -> None:
        """The kubelet's Event about the pod."""
        pod = self.get("pod", self.pod(name))["metadata"]
        subject = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": pod["name"],
            "namespace": pod["namespace"],
            "uid": pod["uid"],
        }
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.create({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": f"{pod['name']}.{uuid.uuid4().hex[:8]}"}, "type": "Warning", "reason": reason,
            "message": message, "involvedObject": subject, "firstTimestamp": now, "lastTimestamp": now, "count": 1, "source": {"component": "kubelet"},
        })  # fmt: skip


@pytest.fixture(scope="module")
def town(api: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    name = f"town-{uuid.uuid4().hex[:8]}"
    api.kubectl("create", "namespace", name)
    api.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    operator = Operator(api.kubeconfig, tmp_path_factory.mktemp("town") / "operator.log", WATCH_NAMESPACES=name)
    try:
        operator.wait_ready()
        place = Town(api, name)
        place.apply(runtime("late", progressDeadlineSeconds=10))  # its time runs while the others are tested
        yield place
    finally:
        operator.kill()
        api.kubectl("delete", "namespace", name, "--wait=false")


# What the cluster says of pods -------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """What goes wrong: the spec's changes, what kubelet or scheduler then say, and the words that `Ready` must have."""

    reason: str
    spec: dict[str, Any]
    happens: Callable[[Town, str], None]
    words: str


def waits(reason: str, message: str, step: str = "") -> Callable[[Town, str], None]:
    return lambda town, name: town.container(name, {"waiting": {"reason": reason, "message": message}}, step=step)


def ends(message: str, **more: Any) -> Callable[[Town, str], None]:
    return lambda town, name: town.end(name, message, **more)


def unscheduled(message: str) -> Callable[[Town, str], None]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return lambda town, name: town.say(name, conditions=[condition])


def warned(reason: str, message: str) -> Callable[[Town, str], None]:
    return lambda town, name: town.warn(name, reason, message)


def disrupted(why: str, text: str, **more: Any) -> Callable[[Town, str], None]:
    """The pod has failed; its ReplicaSet makes another, which waits."""

    def happens(town: Town, name: str) -> None:
        now = stamp()  # the controller-manager takes back what is old
        condition = {"type": "DisruptionTarget", "status": "True", "reason": why, "message": text}
        town.say(name, phase="Failed", conditions=[{**condition, "lastTransitionTime": now}], **more)

    return happens


def silent_node(town: Town, name: str) -> None:
    """As the node controller marks the pods of a node that is silent: unready, though the kubelet said ready at last."""
    town.serve(name)
    town.await_reason(name, "Available")
    now = {"lastTransitionTime": stamp()}
    town.patch_status("pod", town.pod(name), {"conditions": [
        {"type": "Ready", "status": "False", **now}, {"type": "ContainersReady", "status": "True", **now},
    ]})  # fmt: skip


def runs(since: float, **more: Any) -> dict[str, Any]:
    """A container that has been running for so many seconds."""
    return {"state": {"running": {"startedAt": stamp(-since)}}, **more}


def probe_fails(text: str, since: float, *, turned: float = 0.0, **more: Any) -> Callable[[Town, str], None]:
    """A container runs, and the node's probe fails now; `turned` seconds ago the pod was still ready."""

    def happens(town: Town, name: str) -> None:
        town.warn(name, "Unhealthy", text)
        ready = {"type": "Ready", "status": "False", "lastTransitionTime": stamp(-(turned or since))}
        status = {
            "name": "runtime",
            "ready": False,
            "restartCount": 0,
            "image": "i",
            "imageID": "",
            **runs(since),
            **more,
        }
        town.say(name, phase="Running", conditions=[ready], containerStatuses=[status])

    return happens


def stamp(seconds: float = 0.0) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def probed_to_death(code: int, message: str = "") -> Callable[[Town, str], None]:
    def happens(town: Town, name: str) -> None:
        town.warn(name, "Unhealthy", "Liveness probe failed: timeout: failed to connect service within 5s")
        town.end(name, message, code=code)

    return happens


PULL = 'failed to pull and unpack image "r.example.com/m:1": r.example.com/m:1: not found'
CLAIM = {"persistentVolumeClaim": {"claimName": "models", "path": "digits/3"}}
OCI = {"image": {"reference": "r.example.com/m:1"}}

CASES = [
    Case("ImagePullFailed", {}, waits("ErrImagePull", PULL), PULL),
    Case("ImagePullFailed", {}, waits("ImagePullBackOff", f'Back-off pulling image "r.example.com/m:1": ErrImagePull: {PULL}'), PULL),
    Case("ImagePullFailed", {"image": "r.example.com/m:1"}, waits("InvalidImageName", "couldn't parse image name"), "couldn't parse image name"),
    Case("ImagePullFailed", {"model": {"hydrosphereImage": {"reference": "r.example.com/m:1"}}}, waits("ImagePullBackOff", PULL, "copy"), "container copy"),
    Case("ImageVolumeUnsupported", {"model": OCI}, waits("CreateContainerError", 'failed to apply OCI options: failed to mkdir "": mkdir : no such file or directory'), "failed to mkdir"),
    Case("ImageVolumeUnsupported", {"model": OCI}, warned("FailedMount", "image volume is not supported by the container runtime"), "not supported"),
    Case("SecretMissing", {"tls": {"secretName": "s"}}, warned("FailedMount", 'MountVolume.SetUp failed for volume "tls" : secret "s" not found'), 'secret "s" not found'),
    Case("SecretMissing", {"tls": {"secretName": "s", "clientAuth": "Require"}}, warned("FailedMount", 'MountVolume.SetUp failed for volume "tls" : references non-existent secret key: ca.crt'), "non-existent secret key: ca.crt"),
    Case("SecretMissing", {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}, waits("CreateContainerConfigError", 'secret "s" not found'), 'secret "s" not found'),
    Case("SecretMissing", {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}, waits("CreateContainerConfigError", "couldn't find key k in Secret x/s"), "couldn't find key k"),
    Case("SourceNotFound", {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]}, waits("CreateContainerConfigError", 'configmap "c" not found'), 'configmap "c" not found'),
    Case("SourceNotFound", {"model": CLAIM}, unscheduled('0/3 nodes are available: persistentvolumeclaim "models" not found.'), '"models" not found'),
    Case("SourceNotFound", {"model": CLAIM}, waits("CreateContainerConfigError", "failed to prepare subPath for volumeMount \"files\" of container \"runtime\""), "subPath"),
    Case("VolumePending", {"model": CLAIM}, unscheduled("0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims."), "unbound immediate"),
    Case("VolumeMountFailed", {"model": CLAIM}, warned("FailedMount", 'MountVolume.SetUp failed for volume "pv": mount failed: exit status 32'), "exit status 32"),
    Case("VolumeMountFailed", {"model": CLAIM}, warned("FailedAttachVolume", 'Multi-Attach error for volume "pv"'), "Multi-Attach"),
    Case("Unschedulable", {"resources": {"requests": {"cpu": "500"}}}, unscheduled("0/3 nodes are available: 3 Insufficient cpu."), "Insufficient cpu"),
    Case("StartFailed", {}, waits("RunContainerError", 'exec: "python": executable file not found in $PATH'), "executable file not found"),
    Case("StartFailed", {}, waits("CreateContainerError", "context deadline exceeded"), "context deadline exceeded"),
    Case("OutOfMemory", {}, ends("", code=137, reason="OOMKilled"), "OOMKilled"),
    Case("OutOfMemory", {}, ends("ModelCrashed: died of signal 9", code=7, reason="OOMKilled"), "died of signal 9"),
    Case("OutOfMemory", {"requirements": ["torch"]}, ends("", code=137, reason="OOMKilled", step="requirements"), "container requirements"),
    Case("CrashLoop", {}, ends("Traceback (most recent call last):\nIllegalInstruction"), "exit code 1: Traceback"),
    Case("CrashLoop", {}, ends("", code=139), "exit code 139"),
    Case("SourceNotFound", {"model": {"hydrosphereImage": {"reference": "r.example.com/m:1"}}}, ends("cp: can't stat '/model/.': No such file or directory", step="copy"), "can't stat"),
    Case("CrashLoop", {}, ends("", code=0, reason="Completed"), "ended with exit code 0"),
    Case("ProbeFailed", {}, probed_to_death(137), "Liveness probe failed"),
    Case("ProbeFailed", {}, probed_to_death(0), "Liveness probe failed"),
    Case("InvalidSetting", {}, probed_to_death(2, "InvalidSetting: TLS_CERT_FILE: expected a file"), "TLS_CERT_FILE"),
    Case("CrashLoop", {}, probed_to_death(1, "Traceback: what it died of"), "what it died of"),
    Case("ProbeFailed", {}, probe_fails("Startup probe failed: connection refused", 12, started=False), "connection refused"),
    Case("Deploying", {}, probe_fails("Startup probe failed: connection refused", 6, started=False), "Startup probe failed"),
    Case("ProbeFailed", {}, probe_fails("Readiness probe failed: timeout", 600, turned=2, started=True), "probe failed: timeout"),
    Case("ProbeFailed", {}, probe_fails("Liveness probe failed: timeout", 30, started=True), "Liveness probe failed: timeout"),
    Case("Deploying", {}, probe_fails("Readiness probe failed: NOT_SERVING", 30, started=True), "0 of 1 pods"),
    Case("Evicted", {}, disrupted("TerminationByKubelet", "The node was low on resource: memory."), "low on resource: memory"),
    Case("NodeLost", {}, disrupted("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"), "Taint manager"),
    Case("Unschedulable", {}, disrupted("", "", reason="OutOfcpu", message="Node didn't have enough resource: cpu"), "OutOfcpu: Node"),
    Case("InvalidSetting", {}, ends("InvalidSetting: LOG_LEVEL: expected debug or info or warning or error, got 'loud'", code=2), "got 'loud'"),
    Case("ModelTimeout", {}, ends("ModelTimeout: predict took longer than 30 s"), "longer than 30 s"),
]  # fmt: skip


def _id(case: Case) -> str:
    return f"{case.reason}-{CASES.index(case)}"


@pytest.mark.parametrize("case", CASES, ids=_id)
def test_what_kubelet_or_scheduler_say_is_said_on(town: Town, case: Case) -> None:
    name = f"m{CASES.index(case)}"
    town.apply(runtime(name, **case.spec))
    town.pods(name)

    case.happens(town, name)

    assert_told(town, name, case.reason, case.words)


def test_a_silent_node_is_named_until_it_speaks(town: Town) -> None:
    town.apply(runtime("silent"))
    town.kubectl(
        "create", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": town.namespace}})
    )
    town.beat()
    try:
        silent_node(town, "silent")
        assert_told(town, "silent", "NodeLost", f"on node {town.namespace}: the node does not answer")

        town.warn("silent", "NodeNotReady", "Node is not ready")  # stays for an hour
        town.end("silent", "ModelCrashed: it fell over", code=7)
        ended = [{"type": kind, "status": "False"} for kind in ("Ready", "ContainersReady")]
        town.patch_status("pod", town.pod("silent"), {"conditions": ended})
        assert_told(town, "silent", "ModelCrashed", "it fell over")
    finally:
        town.kubectl("delete", "node", town.namespace, "--wait=false")


def assert_told(town: World, name: str, reason: str, words: str) -> None:
    """Ready says so in time, with the name of the object; and the other conditions agree."""
    town.await_reason(name, reason, KNOWN_SECONDS)
    eventually(
        lambda: words in town.condition(name, "Ready")["message"], KNOWN_SECONDS, lambda: town.condition(name, "Ready")
    )
    ready = town.condition(name, "Ready")
    assert ready["status"] == "False"
    stalled = town.condition(name, "Stalled")
    assert (stalled["status"] == "True") == REASONS[reason].stalls, stalled
    if REASONS[reason].stalls:
        assert stalled["message"] == ready["message"]


# What the runtime itself says --------------------------------------------------------------------------------------------


def serving(folder: Path, code: str = ECHO, **environment: str) -> str:
    """What the real runtime leaves in its termination log when it cannot serve that model."""
    log = folder / "termination-log"
    log.touch()
    with Program(model_directory(folder / "model", code), TERMINATION_LOG=str(log), **environment) as program:
        program.end(60)
    return log.read_text()


def stepping(folder: Path, *arguments: str) -> str:
    """The same of an init step: its termination log, or the end of its log, as the kubelet takes it where there is none."""
    log = folder / "termination-log"
    log.touch()
    command = [sys.executable, "-m", "model_runtime", *arguments]
    done = subprocess.run(command, env={**os.environ, "TERMINATION_LOG": str(log)}, capture_output=True, timeout=60)
    assert done.returncode != 0
    return log.read_text() or done.stderr.decode()[-2048:]


def broken_contract(folder: Path) -> str:
    model = model_directory(folder / "model")
    (model / "contract.protobin").write_bytes(b"\xff\xff\xff")
    log = folder / "termination-log"
    log.touch()
    with Program(model, TERMINATION_LOG=str(log)) as program:
        program.end(60)
    return log.read_text()


def garbage_certificate(folder: Path) -> str:
    (folder / "tls.pem").write_text("garbage")
    return serving(folder, TLS_CERT_FILE=str(folder / "tls.pem"), TLS_KEY_FILE=str(folder / "tls.pem"))


def other_contract(folder: Path) -> str:
    ours = model_directory(folder / "ours") / "contract.protobin"
    promise = {**ECHO_CONTRACT, "outputs": {"y": {"shape": [-1], "type": "string"}}}
    theirs = model_directory(folder / "theirs", promise=promise) / "contract.protobin"
    return stepping(folder, "fetch", "contract", str(theirs), "--expect", str(ours))


class _Store(BaseHTTPRequestHandler):
    """A shop of models that has one, and does not understand another."""

    def do_GET(self) -> None:
        status = {"/model.zip": 200, "/odd.zip": 400}.get(self.path, 404)
        self.send_response(status)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"model")

    def log_message(self, *_: Any) -> None:
        pass


def download(folder: Path, name: str) -> str:
    """What the fetch step says of a file of that store, which has another sha256."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Store) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/{name}"
            return stepping(folder, "fetch", "http", url, "--sha256", "a" * 64, "--into", str(folder))
        finally:
            server.shutdown()
            thread.join()


RUNTIME_CASES: list[tuple[str, str, Callable[[Path], str]]] = [
    ("ModelImportFailed", "No module named 'sklern'", lambda folder: serving(folder, "import sklern\n")),
    ("ModelImportFailed", "SyntaxError", lambda folder: serving(folder, "def echo(x:\n")),
    ("FunctionMissing", "echo", lambda folder: serving(folder, "def other(x):\n    return x\n")),
    ("WarmupFailed", "no answer today", lambda folder: serving(folder, "def echo(x):\n    raise TypeError('no answer today')\n")),
    ("ModelCrashed", "", lambda folder: serving(folder, "import os\nos._exit(3)\n", MODEL_RESTARTS="2")),
    ("ModelTimeout", "did not load within 1 s (MODEL_LOAD_TIMEOUT)", lambda folder: serving(folder, "import time\ntime.sleep(60)\n", MODEL_LOAD_TIMEOUT="1")),
    ("InvalidSetting", "LOG_LEVEL: expected debug", lambda folder: serving(folder, LOG_LEVEL="loud")),
    ("InvalidSetting", "expected a certificate and its key", garbage_certificate),
    ("InvalidSetting", "METRICS_PORT: expected another port than HEALTH_PORT", lambda folder: serving(folder, METRICS_PORT="9", HEALTH_PORT="9")),
    ("InvalidSetting", "APP_HOST: expected an address of this machine", lambda folder: serving(folder, APP_HOST="192.0.2.1")),
    ("ContractInvalid", "contract.protobin", broken_contract),
    ("ContractMissing", "contract.protobin", lambda folder: stepping(folder, "fetch", "contract", str(folder / "contract.protobin"), "--into", str(folder))),
    ("ContractMismatch", "string", other_contract),
    ("DownloadFailed", "odd.zip: 400", lambda folder: download(folder, "odd.zip")),
    ("SourceNotFound", "none.zip: 404", lambda folder: download(folder, "none.zip")),
    ("ChecksumMismatch", "expected sha256 aaaa", lambda folder: download(folder, "model.zip")),
    ("RequirementsFailed", "no-such-package", lambda folder: stepping(folder, "install", str(folder), "--wheels", str(folder), "--", "no-such-package==1")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "words", "fails"), RUNTIME_CASES, ids=[f"{reason}-{n}" for n, (reason, _, _) in enumerate(RUNTIME_CASES)]
)
def test_what_the_runtime_says_at_its_end_is_said_on(
    town: Town, tmp_path: Path, reason: str, words: str, fails: Callable[[Path], str]
) -> None:
    name = f"r{[case[2] for case in RUNTIME_CASES].index(fails)}"
    town.apply(runtime(name))
    town.pods(name)
    message = fails(tmp_path)
    assert message, "the runtime left no termination message"

    town.end(name, message, step="requirements" if reason == "RequirementsFailed" else "")

    assert_told(town, name, reason, words)


def test_a_port_of_the_metrics_that_is_taken_is_named_by_its_setting(town: Town, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::", 0))
        other.listen()
        message = serving(tmp_path, METRICS_PORT=str(other.getsockname()[1]))
    town.apply(runtime("metrics-taken"))

    town.end("metrics-taken", message)

    assert_told(town, "metrics-taken", "PortInUse", "METRICS_PORT")


def test_serve_of_the_command_line_leaves_the_same_message(tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    log.touch()
    environment = {**os.environ, "TERMINATION_LOG": str(log), "LOG_LEVEL": "loud"}
    done = subprocess.run([sys.executable, "-m", "model_runtime", "serve"], env=environment, timeout=60)

    assert done.returncode == 2
    assert log.read_text().startswith("InvalidSetting: LOG_LEVEL: expected debug")


def test_a_port_that_is_taken_is_named(town: Town, tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "termination-log"
    log.touch()
    with Program(model_directory(tmp_path / "one"), port=port) as first:
        first.wait_serving()
        with Program(model_directory(tmp_path / "two"), port=port, TERMINATION_LOG=str(log)) as second:
            second.end(60)
    town.apply(runtime("taken"))

    town.end("taken", log.read_text())

    assert_told(town, "taken", "PortInUse", str(port))


# What the ModelRuntime and its source say --------------------------------------------------------------------------------


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_a_source_that_is_missing_or_empty_is_named_and_heals(town: Town) -> None:
    town.apply(runtime("source", model={"configMap": {"name": "code"}}))
    assert_told(town, "source", "SourceNotFound", "ConfigMap code: not found")

    town.apply(config_map("code", README="a model"))
    assert_told(town, "source", "SourceEmpty", "expected src/func_main.py, got README")

    town.apply(config_map("code", **{"src__func_main.py": CODE["src/func_main.py"]}))
    town.await_reason("source", "Deploying")


def test_a_contract_that_the_schema_cannot_judge_is_judged(town: Town) -> None:
    town.apply(runtime("garbage", contract={"protobin": base64.b64encode(b"\xff\xff\xff").decode()}))
    town.apply(config_map("contractless", **{"src__func_main.py": CODE["src/func_main.py"]}))
    town.apply(runtime("contractless", contract={"fromModel": True}, model={"configMap": {"name": "contractless"}}))

    assert_told(town, "garbage", "ContractInvalid", "spec.contract.protobin")
    assert town.condition("garbage", "ContractAccepted")["status"] == "False"
    assert_told(town, "contractless", "ContractMissing", "expected contract.protobin")


ITEMS = {
    "name": "twofold",
    "items": [{"key": "a", "path": "src/func_main.py"}, {"key": "b", "path": "src/func_main.py"}],
}
NONSENSE: dict[str, tuple[dict[str, Any], str]] = {
    "above": ({"requirements": {"file": "../requirements.txt"}}, "expected a relative path"),
    "both": ({"model": {"inline": {**CODE, "src": "x"}}}, "expected src to be a file or a folder, got src and src/func_main.py"),
    "twofold": ({"model": {"configMap": ITEMS}}, "expected each path once, got src/func_main.py twice"),
    "dunder": ({"model": {"configMap": {"name": "dunder"}}}, "ConfigMap dunder: expected relative paths without '..', got /init/.py"),
}  # fmt: skip


@pytest.mark.parametrize("name", NONSENSE)
def test_a_spec_that_makes_no_sense_beyond_the_schema_is_told(town: Town, name: str) -> None:
    spec, words = NONSENSE[name]
    town.apply(config_map(name, **{"src__func_main.py": "x", "__init__.py": "x"}))
    town.apply(runtime(name, **spec))

    assert_told(town, name, "InvalidSpec", words)


# What the API server says ------------------------------------------------------------------------------------------------


def test_somebody_elses_object_is_not_touched_and_gives_way(town: Town) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "mine"},
        "spec": {"ports": [{"port": 1}], "selector": {"app": "x"}},
    }
    town.apply(service)
    before = town.get("service", "mine")

    town.apply(runtime("mine"))
    assert_told(town, "mine", "NameConflict", "Service mine")
    assert town.get("service", "mine") == before

    town.kubectl("delete", "service", "mine")
    town.await_reason("mine", "Deploying", 20)  # nothing tells us of it: it is tried again


def test_what_the_api_server_finds_invalid_is_told(town: Town) -> None:
    resources = {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}
    town.apply(runtime("greedy", resources=resources))

    assert_told(town, "greedy", "ObjectRefused", "must be less than or equal to memory limit")


def test_a_service_account_that_is_missing_is_told(town: Town) -> None:
    town.apply(runtime("nobody", serviceAccountName="nobody"))

    assert_told(town, "nobody", "AdmissionDenied", "nobody")


def test_a_policy_that_refuses_is_quoted(town: Town) -> None:
    name = town.namespace
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}]},
            "validations": [{"expression": "object.metadata.name != 'unwanted'", "message": "no unwanted models"}],
        },
    }  # fmt: skip
    selector = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources": selector},
    }  # fmt: skip
    items = {"apiVersion": "v1", "kind": "List", "items": [policy, binding]}
    town.kubectl("create", "-f", "-", text=json.dumps(items))
    try:
        eventually(lambda: _is_denied(town, "unwanted"), 20)
        town.apply(runtime("unwanted"))

        assert_told(town, "unwanted", "AdmissionDenied", "no unwanted models")
    finally:
        town.kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", name)
    town.await_reason("unwanted", "Deploying", 30)


def _is_denied(town: Town, name: str) -> bool:
    try:
        town.kubectl("create", "deployment", name, "--image=i", "--dry-run=server")
    except subprocess.CalledProcessError as error:
        return "no unwanted models" in error.stderr
    return False


@pytest.mark.parametrize("what", ["pods", "count/deployments.apps"])
def test_a_quota_that_is_used_up_is_quoted_and_heals(
    town: Town, start: Callable[..., Operator], world: World, what: str
) -> None:
    operator = start()
    operator.wait_ready()
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": {what: "0"}}}
    world.apply(quota)
    eventually(lambda: world.get("resourcequota", "small").get("status", {}).get("hard"))

    world.apply(runtime())
    assert_told(world, "adder", "QuotaExceeded", "exceeded quota: small")

    world.kubectl("delete", "resourcequota", "small")
    world.await_reason("adder", "Deploying", 40)


def test_a_rollout_that_gets_nowhere_is_too_late_and_says_what_kept_it(town: Town) -> None:
    late = town.await_reason("late", "ProgressDeadlineExceeded", 20)

    waits = "no progress for 10 s: 0 of 1 pods of the latest revision are ready; pod late-"
    assert f"Deployment late: {waits}" in late["message"]
    assert late["message"].endswith(": no node has been chosen yet")
    assert town.condition("late", "Stalled")["status"] == "True"

    unscheduled("0/3 nodes are available: 3 Insufficient cpu.")(town, "late")
    town.await_reason("late", "Unschedulable")
    assert "no progress for 10 s" in town.condition("late", "Ready")["message"]
    assert town.condition("late", "Stalled")["status"] == "True"


def test_the_catalogue_is_played_through() -> None:
    played = {case.reason for case in CASES} | {reason for reason, _, _ in RUNTIME_CASES}
    played |= {
        "PortInUse",
        "SourceEmpty",
        "InvalidSpec",
        "NameConflict",
        "ObjectRefused",
        "AdmissionDenied",
        "QuotaExceeded",
        "ProgressDeadlineExceeded",
    }
    calm = {
        "Paused",
        "ScaledToZero",
        "Deploying",
        "Available",
        "NotAvailable",
        "RolledOut",
        "NotStalled",
        "Accepted",
        "Unknown",
    }
    played |= {"ScalingInactive"}  # test_autoscaling

    assert set(REASONS) - calm == played - calm
    assert len(played) >= 20
