# ruff: noqa: E501 - the table is read row by row
"""The API as a person meets it: every sample is accepted, and what makes no sense is refused in words that say why."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from operating import CRD, SAMPLES, World, runtime

pytestmark = pytest.mark.apiserver

FIELD = {"shape": [-1], "type": "double"}
DIGEST = "a" * 64


def contract(**more: Any) -> dict[str, Any]:
    return {"contract": {"outputs": {"y": FIELD}, **more}}


def model(**source: Any) -> dict[str, Any]:
    return {"model": source}


# What is wrong, the spec that says it, and words that the refusal must have.
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("no contract", {"contract": None}, "spec.contract"),
    ("no model", {"model": None}, "spec.model"),
    ("an unknown field", {"replica": 1}, 'unknown field "spec.replica"'),
    ("an empty contract", {"contract": {}}, "expected exactly one of outputs"),
    ("inputs alone", {"contract": {"inputs": {"x": FIELD}}}, "expected exactly one of outputs"),
    ("a name alone with protobin", {"contract": {"name": "f", "protobin": "AAAA"}}, "only together with outputs"),
    ("two kinds of contract", contract(protobin="AAAA"), "expected exactly one of outputs"),
    ("fromModel beside outputs", contract(fromModel=True), "expected exactly one of outputs"),
    ("fromModel false alone", {"contract": {"fromModel": False}}, "expected exactly one of outputs"),
    ("fromModel of inline files", {"contract": {"fromModel": True}}, "inline files are text"),
    ("no outputs in outputs", {"contract": {"outputs": {}}}, "outputs"),
    ("an unknown era", contract(era="v1"), 'supported values: "v0", "v2", "v3"'),
    ("several signatures of era v2", {"contract": {"era": "v2", "signatures": {"f": {"outputs": {"y": FIELD}}, "g": {"outputs": {"y": FIELD}}}}}, "expected v0 for several signatures"),
    ("several signatures without an era", {"contract": {"signatures": {"f": {"outputs": {"y": FIELD}}, "g": {"outputs": {"y": FIELD}}}}}, "expected v0 for several signatures"),
    ("a signature without outputs", {"contract": {"signatures": {"f": {}}}}, "outputs"),
    ("a field without a type", contract(outputs={"y": {"shape": [-1]}}), "expected a type or nested fields"),
    ("a field with type and fields", contract(outputs={"y": {"type": "double", "fields": {"a": FIELD}}}), "expected a type or nested fields"),
    ("a nested field without a type", contract(outputs={"y": {"fields": {"a": {"shape": [1]}}}}), "expected a type or nested fields"),
    ("no nested fields", contract(outputs={"y": {"fields": {}}}), "should have at least 1 properties"),
    ("a field without a name", contract(outputs={"": FIELD}), "expected a name for each field"),
    ("a field that YAML takes for a boolean", contract(outputs={"true": FIELD}), "put y, n, yes, no, on and off in quotes"),
    ("a shape that is another word", contract(outputs={"y": {"type": "double", "shape": "vector"}}), "shape"),
    ("a shape that is a mapping", contract(outputs={"y": {"type": "double", "shape": {"a": 1}}}), "shape"),
    ("a shape of too many dimensions", contract(outputs={"y": {"type": "double", "shape": [1] * 33}}), "at most 32 items"),
    ("a type that is a number", contract(outputs={"y": {"type": 7}}), "type"),
    ("a type that is no word", contract(outputs={"y": {"type": "double precision"}}), "type"),
    ("an empty signature name", contract(name=""), "name"),
    ("protobin that is no base64", {"contract": {"protobin": "not base64!"}}, "protobin"),
    ("no source", model(), "expected exactly one source"),
    ("two sources", model(inline={"src/func_main.py": "x"}, configMap={"name": "m"}), "expected exactly one source"),
    ("inline without files", model(inline={}), "inline"),
    ("an inline path that is absolute", model(inline={"/etc/passwd": "x"}), "expected relative paths"),
    ("an inline path that leads out", model(inline={"src/../../x.py": "x"}), "expected relative paths"),
    ("an inline path with a space", model(inline={"src/func main.py": "x"}), "expected relative paths"),
    ("an inline file that is too large", model(inline={"src/func_main.py": "x" * 262145}), "Too long"),
    ("a ConfigMap without a name", model(configMap={}), "configMap.name"),
    ("a ConfigMap's name in capitals", model(configMap={"name": "Model"}), "configMap.name"),
    ("no items", model(configMap={"name": "m", "items": []}), "items"),
    ("an item without a path", model(configMap={"name": "m", "items": [{"key": "a"}]}), "path"),
    ("an item's path that leads out", model(configMap={"name": "m", "items": [{"key": "a", "path": "../a"}]}), "without '..'"),
    ("a claim without a name", model(persistentVolumeClaim={"path": "a"}), "claimName"),
    ("a claim's path that leads out", model(persistentVolumeClaim={"claimName": "c", "path": "a/../.."}), "without '..'"),
    ("a claim's path that is absolute", model(persistentVolumeClaim={"claimName": "c", "path": "/a"}), "path"),
    ("an image without a reference", model(image={"path": "/"}), "reference"),
    ("an image with a broken digest", model(image={"reference": "r/m@sha256:abc"}), "expected an image reference"),
    ("an image's path that is relative", model(image={"reference": "r/m:1", "path": "model"}), "path"),
    ("an image's path that leads out", model(image={"reference": "r/m:1", "path": "/a/../.."}), "without '..'"),
    ("an unknown pull policy", model(image={"reference": "r/m:1", "pullPolicy": "Sometimes"}), 'supported values: "Always", "IfNotPresent", "Never"'),
    ("an unknown mode", model(image={"reference": "r/m:1", "mode": "Mount"}), 'supported values: "Auto", "Volume", "Copy"'),
    ("http without a sha256", model(http={"url": "https://h/x.zip"}), "sha256"),
    ("http with a short sha256", model(http={"url": "https://h/x.zip", "sha256": "abc"}), "sha256"),
    ("http with a sha256 in capitals", model(http={"url": "https://h/x.zip", "sha256": "A" * 64}), "sha256"),
    ("an ftp address", model(http={"url": "ftp://h/x.zip", "sha256": DIGEST}), "url"),
    ("a password in the address", model(http={"url": "https://me:secret@h/x.zip", "sha256": DIGEST}), "no user or password"),
    ("a credentials Secret without a name", model(http={"url": "https://h/x", "sha256": DIGEST, "credentialsSecret": {}}), "name"),
    ("s3 without a bucket", model(s3={"prefix": "a/"}), "bucket"),
    ("s3 without a prefix", model(s3={"bucket": "models"}), "prefix"),
    ("s3 with a broken bucket", model(s3={"bucket": "Models_1", "prefix": "a/"}), "bucket"),
    ("an s3 prefix that leads out", model(s3={"bucket": "models", "prefix": "a/../b"}), "without '..'"),
    ("an s3 endpoint that is no address", model(s3={"bucket": "models", "prefix": "a/", "endpoint": "minio:9000"}), "endpoint"),
    ("credentials of a public s3 bucket", model(s3={"bucket": "models", "prefix": "a/", "anonymous": True, "credentialsSecret": {"name": "s"}}), "got both"),
    ("gcs without a bucket", model(gcs={"prefix": "a/"}), "bucket"),
    ("gcs with a broken bucket", model(gcs={"bucket": "Models", "prefix": "a/"}), "bucket"),
    ("a gcs prefix that leads out", model(gcs={"bucket": "models", "prefix": "../b"}), "without '..'"),
    ("azure without an account", model(azure={"container": "models", "prefix": "a/"}), "account"),
    ("azure with a broken account", model(azure={"account": "a", "container": "models", "prefix": "a/"}), "account"),
    ("azure with a broken container", model(azure={"account": "acc", "container": "Models", "prefix": "a/"}), "container"),
    ("s3 beside gcs", model(s3={"bucket": "models", "prefix": "a/"}, gcs={"bucket": "models", "prefix": "a/"}), "expected exactly one source"),
    ("requirements that are a word", {"requirements": "scikit-learn"}, "requirements"),
    ("requirements of two files", {"requirements": {"file": "a.txt", "other": "b.txt"}}, "requirements"),
    ("warm-up inputs that are turned off", {"warmup": {"enabled": False, "inputs": {"x": [1]}}}, "expected no inputs"),
    ("negative replicas", {"replicas": -1}, "greater than or equal to 0"),
    ("replicas beside an autoscaler", {"replicas": 2, "autoscaling": {"maxReplicas": 3}}, "expected to be absent when autoscaling is set"),
    ("an autoscaler without a maximum", {"autoscaling": {"minReplicas": 1}}, "maxReplicas"),
    ("an autoscaler upside down", {"autoscaling": {"minReplicas": 5, "maxReplicas": 2}}, "expected at most maxReplicas"),
    ("an autoscaler from zero", {"autoscaling": {"minReplicas": 0, "maxReplicas": 2}}, "greater than or equal to 1"),
    ("an autoscaler without metrics", {"autoscaling": {"maxReplicas": 2, "metrics": []}}, "should have at least 1 items"),
    ("an autoscaler of an unknown metric", {"autoscaling": {"maxReplicas": 2, "metrics": [{"type": "Rumour"}]}}, "supported values"),
    ("port 0", {"port": 0}, "greater than or equal to 1"),
    ("port 65536", {"port": 65536}, "less than or equal to 65535"),
    ("a port that is a word", {"port": "grpc"}, "port"),
    ("an image with a space", {"image": "my image"}, "expected an image reference"),
    ("no model processes", {"processes": 0}, "greater than or equal to 1"),
    ("batches of nothing", {"batching": {"maxSize": 0}}, "greater than or equal to 1"),
    ("batches that are too large", {"batching": {"maxSize": 256}}, "less than or equal to 255"),
    ("a variable of the operator's", {"env": [{"name": "APP_PORT", "value": "1"}]}, "are set by the operator"),
    ("a variable with two values", {"env": [{"name": "A", "value": "1", "valueFrom": {}}]}, "got both"),
    ("a variable twice", {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}, "Duplicate value"),
    ("a resource that is no quantity", {"resources": {"limits": {"memory": "lots"}}}, "memory"),
    ("an unknown taint effect", {"tolerations": [{"effect": "Never"}]}, "supported values"),
    ("a spread without a domain", {"topologySpreadConstraints": [{"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}]}, "topologyKey"),
    ("a label of ours on pods", {"podLabels": {"runtime.hydrosphere.io/modelruntime": "x"}}, "expected labels of your own"),
    ("a label of ours on pods, of another prefix", {"podLabels": {"hydrosphere.io/x": "x"}}, "expected labels of your own"),
    ("a label of Hydrosphere's on pods", {"podLabels": {"HS_INSTANCE_NAME": "x"}}, "expected labels of your own"),
    ("a label by which Helm and others find pods", {"podLabels": {"app.kubernetes.io/name": "x"}}, "expected labels of your own"),
    ("the label of who manages pods", {"podLabels": {"app.kubernetes.io/managed-by": "x"}}, "expected labels of your own"),
    ("the label of a ReplicaSet", {"podLabels": {"pod-template-hash": "x"}}, "expected labels of your own"),
    ("a label of the cluster's", {"podLabels": {"apps.kubernetes.io/pod-index": "0"}}, "expected labels of your own"),
    ("a label of a cluster's component", {"podLabels": {"node.k8s.io/x": "0"}}, "expected labels of your own"),
    ("an annotation of ours on pods", {"podAnnotations": {"runtime.hydrosphere.io/files": "x"}}, "annotations of hydrosphere.io"),
    ("an annotation of Hydrosphere's on pods", {"podAnnotations": {"HS_X": "x"}}, "annotations of hydrosphere.io"),
    ("a label of ours on the Service", {"service": {"labels": {"app.kubernetes.io/instance": "x"}}}, "expected labels of your own"),
    ("an annotation of ours on the Service", {"service": {"annotations": {"runtime.hydrosphere.io/applied": "x"}}}, "annotations of hydrosphere.io"),
    ("an unknown type of Service", {"service": {"type": "ExternalName"}}, 'supported values: "ClusterIP", "NodePort", "LoadBalancer"'),
    ("metrics on the port of predictions", {"port": 9100}, "metrics.port: expected another port than port"),
    ("metrics on the port of predictions, said so", {"port": 8000, "metrics": {"port": 8000}}, "metrics.port: expected another port than port"),
    ("metrics on no port", {"metrics": {"port": 0}}, "greater than or equal to 1"),
    ("the port of metrics as a variable", {"env": [{"name": "METRICS_PORT", "value": "1"}]}, "are set by the operator"),
    ("TLS without a Secret", {"tls": {"clientAuth": "Require"}}, "secretName"),
    ("TLS with a wish for certificates", {"tls": {"secretName": "s", "clientAuth": "Request"}}, 'supported values: "None", "Require"'),
    ("health on the port of predictions", {"port": 9101, "tls": {"secretName": "s"}}, "tls.healthPort: expected another port"),
    ("health on the port of metrics", {"tls": {"secretName": "s", "healthPort": 9100}}, "tls.healthPort: expected another port"),
    ("certificates as variables", {"env": [{"name": "TLS_CERT_FILE", "value": "/x"}]}, "are set by the operator (tls)"),
    ("an unknown strategy", {"strategy": {"type": "BlueGreen"}}, 'supported values: "RollingUpdate", "Recreate"'),
    ("a surge of a strategy that has none", {"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}}, "expected to be absent with type Recreate"),
    ("a rollout that cannot move", {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}, "expected maxSurge or maxUnavailable above 0"),
    ("a surge that is a word", {"strategy": {"rollingUpdate": {"maxSurge": "one"}}}, "maxSurge"),
    ("a surge below zero", {"strategy": {"rollingUpdate": {"maxSurge": -1}}}, "greater than or equal to 0"),
    ("a volume of the operator's", {"volumes": [{"name": "files", "emptyDir": {}}]}, "are volumes of the operator"),
    ("a volume without a name", {"volumes": [{"emptyDir": {}}]}, "name"),
    ("a volume twice", {"volumes": [{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]}, "Duplicate value"),
    ("a mount of no volume", {"volumeMounts": [{"name": "a", "mountPath": "/data"}]}, "expected each name to be one of volumes"),
    ("a mount of another volume", {"volumes": [{"name": "b", "emptyDir": {}}], "volumeMounts": [{"name": "a", "mountPath": "/data"}]}, "expected each name to be one of volumes"),
    *[(f"a mount at {path}", {"volumes": [{"name": "a", "emptyDir": {}}], "volumeMounts": [{"name": "a", "mountPath": path}]}, words)
      for path, words in {
          "/model": "are the operator's", "/model/files/data": "are the operator's", "/tmp": "are the operator's", "/target/x": "are the operator's",
          "/etc/model-runtime/tls": "are the operator's", "/opt/model-runtime/lib": "are the operator's", "/proc/self": "are the operator's",
          "/etc": "are the operator's", "/data/../model": "without '..'", "data": "mountPath", "/": "mountPath", "/data/": "mountPath", "/a//b": "mountPath", "/a:b": "mountPath",
      }.items()],
    ("two mounts at one path", {"volumes": [{"name": "a", "emptyDir": {}}], "volumeMounts": [{"name": "a", "mountPath": "/d"}, {"name": "a", "mountPath": "/d"}]}, "Duplicate value"),
    ("shared memory twice", {"sharedMemory": "1Gi", "volumes": [{"name": "a", "emptyDir": {}}], "volumeMounts": [{"name": "a", "mountPath": "/dev/shm"}]}, "sharedMemory mounts it"),
    ("shared memory of no size", {"sharedMemory": "much"}, "sharedMemory"),
    ("variables from nowhere", {"envFrom": [{"prefix": "A_"}]}, "expected a configMapRef or a secretRef"),
    ("variables from two places", {"envFrom": [{"configMapRef": {"name": "a"}, "secretRef": {"name": "b"}}]}, "expected a configMapRef or a secretRef"),
    ("pods of root", {"securityContext": {"runAsUser": 0}}, "greater than or equal to 1"),
    ("more rights", {"securityContext": {"runAsNonRoot": False}}, 'unknown field "spec.securityContext.runAsNonRoot"'),
    ("no time to end", {"terminationGracePeriodSeconds": 0}, "greater than or equal to 1"),
    ("an init resource that is no quantity", {"initResources": {"limits": {"memory": "lots"}}}, "memory"),
    ("a servable without a version", {"hydrosphere": {"servableName": "s"}}, "modelVersionId"),
    ("a budget that is a word", {"disruptionBudget": {"maxUnavailable": "some"}}, "maxUnavailable"),
    ("a deadline that is too short", {"progressDeadlineSeconds": 1}, "greater than or equal to 10"),
    ("paused by a word", {"paused": "yes please"}, "paused"),
]  # fmt: skip


def refusal(world: World, body: dict[str, Any]) -> str:
    try:
        world.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", text=json.dumps(body))
    except subprocess.CalledProcessError as error:
        return str(error.stderr)
    return ""


def test_what_makes_no_sense_is_refused_with_the_reason(world: World, api: object) -> None:
    assert len(BAD) >= 60
    wrong = []
    for what, changes, words in BAD:
        body = runtime()
        body["spec"] = {key: value for key, value in {**body["spec"], **changes}.items() if value is not None}
        said = refusal(world, body)
        if words not in said:
            wrong.append(f"{what}: expected {words!r} in {said!r}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a" * 64, "expected at most 63 characters"),
        ("1model", "expected a DNS label"),
        ("my.model", "expected a DNS label"),
    ],
)
def test_a_name_that_cannot_be_a_services_is_refused(world: World, api: object, name: str, words: str) -> None:
    assert words in refusal(world, runtime(name))


def test_a_name_with_no_room_for_that_of_its_external_service_is_refused(world: World, api: object) -> None:
    assert refusal(world, runtime("a" * 54, service={"type": "NodePort"})) == ""
    assert "NAME-external" in refusal(world, runtime("a" * 55, service={"type": "NodePort"}))
    assert refusal(world, runtime("a" * 63, service={"annotations": {"a": "b"}})) == ""


GOOD: list[dict[str, Any]] = [
    {"podLabels": {"app": "x", "app.kubernetes.io/part-of": "x", "kueue.x-k8s.io/queue-name": "q", "sidecar.istio.io/inject": "true"}},
    {"podAnnotations": {"prometheus.io/scrape": "true", "cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}},
    {"strategy": {"rollingUpdate": {"maxSurge": 0}}},
    {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}}},
    {"strategy": {"type": "Recreate"}},
    {"sharedMemory": 1073741824},
    {"sharedMemory": "1.5Gi"},
    {"volumes": [{"name": "a", "emptyDir": {"medium": "Memory"}}], "volumeMounts": [{"name": "a", "mountPath": "/dev/shm"}, {"name": "a", "mountPath": "/etc/app"}]},
    {"port": 9100, "metrics": {"enabled": False}},
    {"port": 9100, "metrics": {"port": 9090}},
    {"autoscaling": {"maxReplicas": 2, "metrics": [{"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "1"}}}]}},
    {"autoscaling": {"maxReplicas": 2}},  # the CPU request may be a fleet default; without one it is InvalidSpec
    {"securityContext": {"runAsUser": 1000, "supplementalGroups": [7], "seLinuxOptions": {"level": "s0:c1,c2"}}, "fsGroup": 0},
]  # fmt: skip


@pytest.mark.parametrize("changes", GOOD, ids=lambda changes: next(iter(changes)))
def test_what_makes_sense_is_accepted(world: World, api: object, changes: dict[str, Any]) -> None:
    assert refusal(world, runtime(**changes)) == ""


def test_every_sample_is_accepted(world: World, api: object) -> None:
    for path in sorted(SAMPLES.glob("*.yaml")):
        assert "created" in world.kubectl("create", "--dry-run=server", "--validate=strict", "-f", str(path)), path


def test_defaults_are_filled_in_and_the_status_waits_to_be_seen(world: World, api: object) -> None:
    world.apply(runtime())

    body = world.get("mr", "adder")
    defaults = {"replicas": 1, "port": 9090, "processes": 1, "paused": False}
    assert {key: body["spec"][key] for key in defaults} == defaults
    assert body["status"] == {"observedGeneration": -1}


def test_every_field_is_described() -> None:
    [version] = yaml.safe_load(CRD.read_text())["spec"]["versions"]
    bare: list[str] = []

    def walk(schema: dict[str, Any], path: str, need: Callable[[str], bool]) -> None:
        if need(path) and not schema.get("description"):
            bare.append(path)
        for name, child in (schema.get("properties") or {}).items():
            walk(child, f"{path}.{name}", need)
        for inner in ("items", "additionalProperties"):
            if isinstance(schema.get(inner), dict):
                walk(schema[inner], f"{path}[]", need)

    walk(version["schema"]["openAPIV3Schema"], "", lambda path: path != ".metadata")
    assert bare == []


def test_explain_reads_like_documentation(world: World, api: object) -> None:
    text = world.kubectl("explain", "mr.spec.model.http.sha256")

    assert "Other bytes are refused" in text
