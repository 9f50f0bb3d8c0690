"""Least privilege: the real operator works with what the chart grants it, and the chart grants nothing that it does not use."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from charting import CHART, Helm, of_kind, service_account_kubeconfig
from operating import CPU_REQUEST, Operator, World, eventually, runtime

from cluster import binaries
from cluster.controlplane import ControlPlane
from model_runtime_operator import cluster
from model_runtime_operator.cluster.kinds import MODEL_RUNTIME, OBSERVED, Kind

pytestmark = pytest.mark.apiserver

HOME = "model-runtime-system"
RELEASE = ("mro", str(CHART), "-n", HOME, "--create-namespace")


def test_the_rules_are_just_what_the_operator_reads_and_writes() -> None:
    expected = {_where(kind): {"list", "watch"} for kind in (MODEL_RUNTIME, *OBSERVED)}
    for kind in OBSERVED:
        expected[_where(kind)] |= {"get", "create", "patch"} if kind.is_written else set()
        expected[_where(kind)] |= {"delete"} if kind in cluster._PRUNED else set()
    expected[("", "events")] |= {"create"}
    expected[("coordination.k8s.io", "leases")] = {"get"}  # of other operators
    expected[("runtime.hydrosphere.io", "modelruntimes/status")] = {"patch"}
    granted: dict[tuple[str, str], set[str]] = defaultdict(set)
    for rule in yaml.safe_load((CHART / "files" / "rbac-rules.yaml").read_text()):
        for resource in rule["resources"]:
            granted[(rule["apiGroups"][0], resource)] |= set(rule["verbs"])
    assert granted == expected


def _where(kind: Kind) -> tuple[str, str]:
    group = kind.api_version.rpartition("/")[0]
    return group, kind.plural


def test_no_rule_of_the_chart_has_a_wildcard_or_reaches_secrets(helm: Helm) -> None:
    rendered = helm.render() + helm.render("--set", "watchNamespaces={a}")
    rules = [rule for kind in ("Role", "ClusterRole") for item in of_kind(rendered, kind) for rule in item["rules"]]
    assert len(rules) > 20
    for rule in rules:
        words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
        assert not words & {"*", "secrets", "pods/exec", "roles", "clusterroles", "impersonate", "escalate", "bind"}


def test_the_operators_account_can_change_no_object_of_others(
    releases: Helm, plane: ControlPlane, tmp_path: Path
) -> None:
    releases("install", *RELEASE)
    account = service_account_kubeconfig(plane, HOME, "mro-model-runtime-operator", tmp_path / "kubeconfig")
    owner = {"apiVersion": "runtime.hydrosphere.io/v1alpha1", "kind": "ModelRuntime", "name": "m", "uid": "u"}

    def config_map(name: str, *owners: dict[str, str]) -> str:
        metadata = {"name": name, "namespace": "default", "ownerReferences": list(owners)}
        return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": name}})

    def refused(*command: str, text: str | None = None) -> str:
        kubectl = [str(binaries.find(["kubectl"])["kubectl"]), "--kubeconfig", str(account), *command]
        done = subprocess.run(kubectl, input=text, capture_output=True, text=True)
        return done.stderr if done.returncode else ""

    plane.kubectl("create", "-f", "-", text=config_map("somebodys"))
    apply = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    words = "may change objects that a ModelRuntime owns only"
    change = ("annotate", "--overwrite", "configmap", "somebodys", "a=b")
    eventually(lambda: words in refused(*change), 20)  # a policy takes a moment to be in force
    assert words in refused("delete", "configmap", "somebodys")
    assert words in refused(*apply, text=config_map("somebodys"))
    assert words in refused(*apply, text=config_map("somebodys", owner))  # nor make it its own
    assert words in refused(*apply, text=config_map("fresh"))
    assert refused(*apply, text=config_map("ours", owner)) == ""
    assert words not in refused(
        "delete", "configmap", "ours"
    )  # the garbage collector may be first: its owner never was
    plane.kubectl("delete", "configmap", "somebodys")


@pytest.fixture
def models(plane: ControlPlane) -> Iterator[str]:
    """A namespace for ModelRuntimes."""
    namespace = f"models-{uuid.uuid4().hex[:8]}"
    plane.kubectl("create", "namespace", namespace)
    yield namespace
    plane.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.mark.parametrize("is_namespaced", [False, True], ids=["all namespaces", "one namespace"])
def test_the_operator_needs_no_more_than_the_chart_grants(
    releases: Helm, plane: ControlPlane, models: str, tmp_path: Path, is_namespaced: bool
) -> None:
    watched = [models] if is_namespaced else []
    releases("install", *RELEASE, "--set-json", f"watchNamespaces={json.dumps(watched)}")
    kubeconfig = service_account_kubeconfig(plane, HOME, "mro-model-runtime-operator", tmp_path / "kubeconfig")
    operator = Operator(
        kubeconfig,
        tmp_path / "log",
        WATCH_NAMESPACES=",".join(watched),
        LEADER_ELECTION="true",
        POD_NAMESPACE=HOME,
        LEASE_NAME="mro-model-runtime-operator",
    )
    try:
        operator.wait_ready()
        _live_a_life(World(plane, models))
        assert operator.metric("model_runtime_operator_api_calls_total", code="403") == 0
        assert operator.metric("model_runtime_operator_watch_restarts_total", why="refused") == 0
    finally:
        operator.kill()
    assert "403" not in operator.log.read_text()


def _live_a_life(world: World) -> None:
    """Everything that the operator ever writes: created, changed, autoscaled, pruned, its pods observed, its Events told."""
    policy = {"from": [{"podSelector": {}}]}
    source = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"}, "data": {"src__func_main.py": ""}}
    world.apply(source, runtime("life", replicas=2, networkPolicy=policy, model={"configMap": {"name": "files"}}))
    eventually(lambda: world.reason("life") == "Deploying", 20)
    eventually(lambda: world.names("networkpolicies") == world.names("poddisruptionbudgets") == ["life"])
    world.apply(runtime("life", autoscaling={"minReplicas": 2, "maxReplicas": 3}, resources=CPU_REQUEST))
    eventually(lambda: world.names("horizontalpodautoscalers") == ["life"])
    world.apply(runtime("life"))
    eventually(
        lambda: (
            [
                *world.names("horizontalpodautoscalers"),
                *world.names("poddisruptionbudgets"),
                *world.names("networkpolicies"),
            ]
            == []
        )
    )
    events = [each for each in world.all("events") if each["involvedObject"]["kind"] == "ModelRuntime"]
    assert events


def test_the_operator_may_not_read_secrets_nor_touch_pods(releases: Helm, plane: ControlPlane, models: str) -> None:
    releases("install", *RELEASE)
    account = f"system:serviceaccount:{HOME}:mro-model-runtime-operator"
    denied = [
        ("get", "secrets"),
        ("list", "secrets"),
        ("delete", "pods"),
        ("create", "pods"),
        ("delete", "modelruntimes"),
    ]
    denied += [
        ("update", "modelruntimes"),
        ("create", "pods/exec"),
        ("create", "serviceaccounts/token"),
        ("get", "nodes"),
    ]
    assert {pair: _may(plane, models, account, *pair) for pair in denied} == dict.fromkeys(denied, False)
    assert _may(plane, models, account, "patch", "deployments.apps")


def test_who_may_edit_or_view_a_namespace_may_edit_or_view_its_model_runtimes(
    releases: Helm, plane: ControlPlane, models: str
) -> None:
    releases("install", *RELEASE)
    for person, role in (("editor", "edit"), ("viewer", "view")):
        plane.kubectl("-n", models, "create", "rolebinding", person, f"--clusterrole={role}", f"--user={person}")
    eventually(lambda: _may(plane, models, "editor", "create", "modelruntimes"))
    eventually(lambda: _may(plane, models, "viewer", "get", "modelruntimes"))
    assert _may(plane, models, "editor", "patch", "modelruntimes/scale")
    assert not _may(plane, models, "viewer", "create", "modelruntimes")
    assert not _may(plane, models, "editor", "patch", "modelruntimes/status")


def _may(plane: ControlPlane, namespace: str, who: str, verb: str, resource: str) -> bool:
    kind, _, part = resource.partition("/")  # kubectl would take what follows the slash for a name
    command = ("auth", "can-i", verb, kind, f"--subresource={part}", f"--as={who}", "-n", namespace)
    try:
        answer = plane.kubectl(*command)
    except subprocess.CalledProcessError as error:  # how kubectl says no
        answer = error.stdout
        assert answer.strip() == "no", error.stderr
    return answer.strip() == "yes"


def test_the_labels_that_aggregate_can_be_left_out(helm: Helm) -> None:
    assert "aggregate-to" not in json.dumps(helm.render("--set", "rbac.aggregate=false"))
