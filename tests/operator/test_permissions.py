"""Least privilege: a ModelRuntime's whole life takes the rules that the chart gives the operator, and uses each of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from operating import CPU_REQUEST, ROOT, Operator, World, eventually, runtime
from relay import Fault, Relay

pytestmark = pytest.mark.apiserver

RULES: list[dict[str, Any]] = yaml.safe_load((ROOT / "helm" / "files" / "rbac-rules.yaml").read_text())
LEASES = [
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": ["model-runtime-operator"],
        "verbs": ["get", "update"],
    },
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
]  # as helm/templates/rbac.yaml has them, in the operator's own namespace


@pytest.fixture
def restricted(world: World, tmp_path: Path) -> Path:
    """A kubeconfig with a service account's token, and the rules bound to it in that namespace alone."""
    name = world.namespace
    bound: list[dict[str, Any]] = []
    for kind, rules in (("operator", RULES), ("leader", LEASES)):
        metadata = {"name": kind, "namespace": name}
        bound += [
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules},
            {
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": kind},
                "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": name}],
            },
        ]  # fmt: skip
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operator", "namespace": name}}
    world.kubectl(
        "create", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": [account, *bound]})
    )
    token = world.kubectl("create", "token", "operator").strip()
    authority = base64.b64encode((world.api.folder / "pki" / "ca.crt").read_bytes()).decode()
    file = tmp_path / "restricted.kubeconfig"
    file.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": world.api.server, "certificate-authority-data": authority}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }))  # fmt: skip
    return file


def live_a_whole_life(world: World) -> None:
    """Everything that an operator may ever have to write or delete."""
    code = {"src__func_main.py": "def predict(x):\n    return {'y': x}\n"}
    world.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "code"}, "data": code})
    world.apply(runtime(model={"configMap": {"name": "code"}}, replicas=1))
    world.serve("adder")
    world.await_reason("adder", "Available", 15)

    claim = f"runtime.hydrosphere.io/operator={world.namespace}/gone"  # that operator's Lease is looked for
    world.kubectl("annotate", "--overwrite", "deployment/adder", claim)
    autoscaling = {"minReplicas": 2, "maxReplicas": 3}
    world.apply(runtime(autoscaling=autoscaling, networkPolicy={}, resources=CPU_REQUEST, service={"type": "NodePort"}))
    eventually(lambda: world.names("horizontalpodautoscalers") == ["adder"] == world.names("networkpolicies"))
    eventually(lambda: world.names("poddisruptionbudgets") == ["adder"])
    eventually(lambda: world.names("services") == ["adder", "adder-external"])
    world.kubectl("set", "env", "deployment/adder", "--all", "APP_PORT=1")
    world.kubectl("annotate", "--overwrite", "service/adder", "runtime.hydrosphere.io/applied=x")

    world.apply(runtime(contract={"name": "other", "outputs": {"y": {"shape": [1], "type": "int64"}}}))
    eventually(lambda: world.names("horizontalpodautoscalers") == [] == world.names("networkpolicies"))
    eventually(lambda: world.names("poddisruptionbudgets") == [])
    eventually(lambda: world.names("services") == ["adder"])
    world.kubectl("delete", "replicasets", "--all")  # so that an old contract is needed by nobody
    eventually(lambda: len([name for name in world.names("configmaps") if "-contract-" in name]) == 1, 15)


def test_a_whole_life_needs_no_more_than_the_rules(
    world: World, start: Callable[..., Operator], restricted: Path
) -> None:
    operator = start(restricted, LEADER_ELECTION="true", POD_NAMESPACE=world.namespace)
    operator.wait_ready()
    eventually(lambda: operator.metric("model_runtime_operator_leading") == 1)

    live_a_whole_life(world)

    assert operator.metric("model_runtime_operator_api_calls_total", code="403") == 0
    assert "forbidden" not in operator.log.read_text()


def test_nothing_is_granted_that_is_not_used(world: World, start: Callable[..., Operator], tmp_path: Path) -> None:
    asked: set[tuple[str, str, str]] = set()

    def note(method: str, path: str) -> Fault | None:
        asked.add(_verb(method, path))
        return None

    with Relay(world.api, tmp_path) as relay:
        relay.decide = note
        operator = start(relay.kubeconfig)
        operator.wait_ready()
        live_a_whole_life(world)
        asked |= {
            ("create", *_verb("", call.path)[1:])
            for call in relay.calls
            if call.method == "PATCH" and call.status == 201
        }

    granted = {
        (verb, group, resource)
        for rule in RULES
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert all("*" not in one for one in granted)
    assert {one for one in asked if one[2]} == granted


def _verb(method: str, path: str) -> tuple[str, str, str]:
    """The RBAC verb, API group and resource of a call: ("", "", "") for what is no resource."""
    parts = urlsplit(path).path.strip("/").split("/")
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1] if len(parts) > 1 else "", parts[3:])
    if len(rest) < 3 or rest[0] != "namespaces":
        return "", "", ""
    resource, name, sub = rest[2], rest[3] if len(rest) > 3 else "", "/".join(rest[4:])
    reads = "watch" if "watch" in parse_qs(urlsplit(path).query) else "get" if name else "list"
    verb = {"GET": reads, "POST": "create", "PATCH": "patch", "DELETE": "delete", "PUT": "update"}.get(method, "")
    return verb, group, f"{resource}/{sub}" if sub else resource
