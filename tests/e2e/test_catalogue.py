# ruff: noqa: E501 - the table is read row by row
"""The failure catalogue on a real node: each reason is provoked, told within ten seconds of the cluster's knowing, and read by kstatus.

The cluster knows when a pod, an Event or a Deployment says the words; what it refuses at once it knows when it is applied.
"""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from living import DOUBLE, Place, doubler

from cluster import binaries
from cluster.access import Access
from model_runtime_operator.vocabulary import REASONS

pytestmark = [pytest.mark.node, pytest.mark.timeout(300), pytest.mark.usefixtures("chart")]

KNOWN_SECONDS = 10.0
GIVES_UP_SECONDS = 200.0


class Case(NamedTuple):
    """What is wrong, in the spec and in objects beside it; the reason it gives; and words of the cluster's or the runtime's."""

    reason: str
    words: str
    spec: dict[str, Any] | None = None
    code: str = DOUBLE
    beside: tuple[dict[str, Any], ...] = ()


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def claim(name: str, storage_class: str | None = None) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    chosen = {"storageClassName": storage_class} if storage_class else {}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": {**spec, **chosen}}


def env(name: str, value: str) -> dict[str, Any]:
    return {"env": [{"name": name, "value": value}]}


def source(kind: str, **more: Any) -> dict[str, Any]:
    return {"model": {kind: more}}


def variable(kind: str, name: str) -> dict[str, Any]:
    return {"env": [{"name": "A", "valueFrom": {kind: {"name": name, "key": "k"}}}]}


def theirs(kind: str, api_version: str, **spec: Any) -> dict[str, Any]:
    """An object of somebody else that has the ModelRuntime's name."""
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "doubler"}, "spec": spec}


SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "there"}, "stringData": {"other": "x"}}
QUOTA = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": {"pods": "0"}}}
LIMITS = {"limits": [{"type": "Container", "max": {"memory": "16Mi", "cpu": "10m"}}]}
LIMIT_RANGE = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"}, "spec": LIMITS}
POD = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
APP = {"matchLabels": {"app": "x"}}
ITEMS = [{"key": "a", "path": "src/func_main.py"}, {"key": "b", "path": "src/func_main.py"}]
NOWHERE = "localhost:1/nonesuch:1"

CASES: dict[str, Case] = {
    "a file that is a folder too": Case("InvalidSpec", "expected src to be a file or a folder", source("inline", **{"src": "x", "src/func_main.py": DOUBLE})),
    "requirements above the model": Case("InvalidSpec", "expected a relative path", {"requirements": {"file": "../x"}}),
    "a path twice": Case("InvalidSpec", "expected each path once", source("configMap", name="code", items=ITEMS)),
    "a key that is no path": Case("InvalidSpec", "two underscores", source("configMap", name="code"), beside=(config_map("code", **{"__init__.py": "x"}),)),
    "a contract of garbage": Case("ContractInvalid", "spec.contract.protobin", {"contract": {"protobin": "////"}}),
    "a ConfigMap without the contract": Case("ContractMissing", "expected contract.protobin", {"contract": {"fromModel": True}, **source("configMap", name="code")}, beside=(config_map("code", **{"src__func_main.py": DOUBLE}),)),
    "a ConfigMap that is not there": Case("SourceNotFound", "ConfigMap code: not found", source("configMap", name="code")),
    "a key that is not there": Case("SourceNotFound", "has no key b", source("configMap", name="code", items=[{"key": "b", "path": "src/func_main.py"}]), beside=(config_map("code", a="x"),)),
    "a claim that is not there": Case("SourceNotFound", "nonesuch", source("persistentVolumeClaim", claimName="nonesuch")),
    "a variable of no ConfigMap": Case("SourceNotFound", 'configmap "nonesuch" not found', variable("configMapKeyRef", "nonesuch")),
    "a folder that is not there": Case("SourceNotFound", "expected the model's code", source("persistentVolumeClaim", claimName="models", path="nonesuch"), beside=(claim("models"),)),
    "a claim that is not bound": Case("VolumePending", "unbound immediate", source("persistentVolumeClaim", claimName="unbound"), beside=(claim("unbound", "nonesuch"),)),
    "a ConfigMap without the model": Case("SourceEmpty", "expected src/func_main.py", source("configMap", name="code"), beside=(config_map("code", README="x"),)),
    "inline files without the model": Case("SourceEmpty", "expected src/func_main.py", source("inline", **{"src/other.py": "x"})),
    "a Secret that is not there": Case("SecretMissing", 'secret "nonesuch" not found', variable("secretKeyRef", "nonesuch")),
    "a Secret without the key": Case("SecretMissing", "find key k", variable("secretKeyRef", "there"), beside=(SECRET,)),
    "all of a Secret that is not there": Case("SecretMissing", 'secret "nonesuch" not found', {"envFrom": [{"secretRef": {"name": "nonesuch"}}]}),
    "an image that is not there": Case("ImagePullFailed", "nonesuch:1", {"image": "localhost:5000/nonesuch:1"}),
    "a registry that is not there": Case("ImagePullFailed", "nonesuch:1", {"image": NOWHERE}),
    "a name that no image can have": Case("ImagePullFailed", "UPPER", {"image": "UPPER:1"}),
    "a model's image that is not there": Case("ImagePullFailed", "nonesuch:1", source("image", reference=NOWHERE, mode="Copy")),
    "a Hydrosphere image that is not there": Case("ImagePullFailed", "nonesuch:1", source("hydrosphereImage", reference=NOWHERE)),
    "a host that is not there": Case("DownloadFailed", "nonesuch.invalid", source("http", url="https://nonesuch.invalid/m.zip", sha256="a" * 64)),
    "a module that is not there": Case("ModelImportFailed", "nonesuch", code="import nonesuch\n"),
    "code that is no Python": Case("ModelImportFailed", "SyntaxError", code="def double(x:\n"),
    "code that raises": Case("ModelImportFailed", "no weights", code="raise RuntimeError('no weights')\n"),
    "code that exits": Case("ModelImportFailed", "SystemExit", code="import sys\nsys.exit(3)\n"),
    "another function": Case("FunctionMissing", "expected among the module's functions: triple", code="def triple(x):\n    return {'y': 3 * x}\n"),
    "a warm-up that raises": Case("WarmupFailed", "no weights", code="def double(x):\n    raise OSError('no weights')\n"),
    "a warm-up with another answer": Case("WarmupFailed", "got only z", code="def double(x):\n    return {'z': x}\n"),
    "a model that dies": Case("ModelCrashed", "exit", code="import os\nos._exit(3)\n"),
    "a model that crashes": Case("ModelCrashed", "signal 11", code="import os\nos.kill(os.getpid(), 11)\n"),
    "a model that loads for too long": Case("ModelTimeout", "MODEL_LOAD_TIMEOUT", env("MODEL_LOAD_TIMEOUT", "1"), code="import time\ntime.sleep(600)\n"),
    "a log level that is none": Case("InvalidSetting", "got 'loud'", env("LOG_LEVEL", "loud")),
    "a Python that is not there": Case("InvalidSetting", "MODEL_PYTHON", env("MODEL_PYTHON", "/nonesuch")),
    "an address of another machine": Case("InvalidSetting", "APP_HOST", env("APP_HOST", "192.0.2.1")),
    "an address that nobody reaches": Case("ProbeFailed", "Startup probe failed", env("APP_HOST", "127.0.0.1")),
    "too little memory": Case("OutOfMemory", "OOMKilled", {"resources": {"limits": {"memory": "256Mi"}}}, code="HELD = b'x' * 10**9\n" + DOUBLE),
    "requirements that cannot be had": Case("RequirementsFailed", "nonesuch", {"requirements": ["nonesuch==0.0.0"]}),
    "requirements that are none": Case("RequirementsFailed", "===", {"requirements": ["==="]}),
    "more CPUs than there are": Case("Unschedulable", "Insufficient cpu", {"resources": {"requests": {"cpu": "1000"}}}),
    "more memory than there is": Case("Unschedulable", "Insufficient memory", {"resources": {"requests": {"memory": "100Ti"}}}),
    "a node that is not there": Case("Unschedulable", "didn't match", {"nodeSelector": {"disk": "nonesuch"}}),
    "more requests than limits": Case("ObjectRefused", "must be less than or equal", {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}}),
    "a service account that is not there": Case("AdmissionDenied", "nonesuch", {"serviceAccountName": "nonesuch"}),
    "a quota that is used up": Case("QuotaExceeded", "exceeded quota: small", beside=(QUOTA,)),
    "limits that are too low": Case("QuotaExceeded", "maximum memory usage", {"resources": {"limits": {"memory": "1Gi", "cpu": "1"}}}, beside=(LIMIT_RANGE,)),
    "a Service of somebody else": Case("NameConflict", "Service doubler", beside=(theirs("Service", "v1", clusterIP="None"),)),
    "a Deployment of somebody else": Case("NameConflict", "Deployment doubler", beside=(theirs("Deployment", "apps/v1", replicas=0, selector=APP, template=POD),)),
    "a budget of somebody else": Case("NameConflict", "PodDisruptionBudget doubler", {"replicas": 2}, beside=(theirs("PodDisruptionBudget", "policy/v1", minAvailable=1, selector=APP),)),
    "nothing for too long": Case("ProgressDeadlineExceeded", "no progress for 10 s", {"progressDeadlineSeconds": 10}, code="import time\ntime.sleep(600)\n"),
    "no pods": Case("ScaledToZero", "no pods are wanted", {"replicas": 0}),
    "a pause": Case("Paused", "paused: true", {"paused": True}),
}  # fmt: skip


@pytest.fixture(scope="module")
def kstatus() -> str:
    return str(binaries.find(["kstatus"])["kstatus"])


@pytest.fixture
def town(node: Access) -> Iterator[Place]:
    """A namespace without Pod Security, so that foreign pods are as people make them."""
    name = f"catalogue-{uuid.uuid4().hex[:8]}"
    node.kubectl("create", "namespace", name)
    yield Place(node, name)
    node.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize("what", CASES)
def test_what_goes_wrong_is_told_in_time_and_read_by_kstatus(town: Place, what: str, kstatus: str) -> None:
    case = CASES[what]
    for each in case.beside:
        town.apply(each)
    if any(each["kind"] == "ResourceQuota" for each in case.beside):
        town.kubectl("wait", "--for=jsonpath={.status.hard.pods}=0", "resourcequota/small", "--timeout=30s")
    body = doubler(code=case.code)
    body["spec"] = {**body["spec"], **(case.spec or {})}
    applied = time.monotonic()
    town.apply(body)

    knew = told = 0.0
    while not told and time.monotonic() - applied < GIVES_UP_SECONDS:
        if not knew and case.words in evidence(town):
            knew = time.monotonic()
        ready = town.condition("doubler", "Ready")
        if ready.get("reason") == case.reason and case.words in ready["message"]:
            told = time.monotonic()

    assert told, town.condition("doubler", "Ready")
    print(
        f"{case.reason}: told {told - applied:.1f} s after it was applied, {max(0.0, told - (knew or told)):.1f} s after it was known"
    )
    assert told - (knew or told) <= KNOWN_SECONDS
    if not knew and town.pod_names("doubler") == []:
        assert told - applied <= KNOWN_SECONDS, "the API server knew at once"
    assert judged(kstatus, town.get("modelruntime", "doubler")) == (
        "Failed" if REASONS[case.reason].stalls else "InProgress"
    )


def evidence(town: Place) -> str:
    """Everything that the cluster says, except of the ModelRuntime itself."""
    items = json.loads(town.kubectl("get", "pods,deployments,events", "-o", "json"))["items"]
    kept = [each for each in items if each.get("involvedObject", {}).get("kind") != "ModelRuntime"]
    said = [[each.get("status"), each.get("message") if each["kind"] == "Event" else ""] for each in kept]
    return json.dumps(said).replace('\\"', '"')


def judged(program: str, item: dict[str, Any]) -> str:
    done = subprocess.run([program], input=json.dumps([item]), capture_output=True, text=True, check=True)
    return done.stdout.partition("\t")[0]


def test_the_catalogue_is_wide_enough() -> None:
    assert len(CASES) >= 40
    assert len({case.reason for case in CASES.values()}) >= 25
