"""The policy of a cluster's owner: what a ModelRuntime may name, on a real API server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from charting import CHART, CRD_NAME, Helm
from operating import await_established, eventually, runtime

from cluster.controlplane import ControlPlane

pytestmark = pytest.mark.apiserver

RELEASE = ("mro", str(CHART), "--namespace", "model-runtime-system", "--create-namespace")
ALLOWED = {
    "enabled": True,
    "serviceAccounts": ["models"],
    "secrets": ["allowed"],
    "images": ["registry.example.com/ml/", "docker.io/library/exact"],
    "annotations": ["team", "prometheus.io/"],
    "priorityClasses": [],
}
Refusal = Callable[[dict[str, Any]], str]


@pytest.fixture(scope="module")
def refusal(helm: Helm, plane: ControlPlane) -> Iterator[Refusal]:
    """What the API server says to a ModelRuntime with these fields; empty where it takes it."""
    releases = helm.on(plane.kubeconfig)
    releases("install", *RELEASE, "--set-json", f"policy={json.dumps(ALLOWED)}")
    await_established(plane, CRD_NAME)

    def refusal(fields: dict[str, Any]) -> str:
        try:
            plane.kubectl("create", "--dry-run=server", "-f", "-", text=json.dumps(runtime(**fields)))
        except subprocess.CalledProcessError as error:
            return str(error.stderr)
        return ""

    eventually(lambda: "serviceAccountName" in refusal({"serviceAccountName": "other"}), 30)
    yield refusal
    releases.uninstall_all()
    plane.kubectl("delete", "crd", CRD_NAME, "--ignore-not-found", "--wait=true")


def _mount(**volume: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "v", **volume}], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}


def _secret_env(name: str) -> dict[str, Any]:
    return {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}}]}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"serviceAccountName": "models"},
        _secret_env("allowed"),
        {
            "env": [
                {"name": "A", "value": "b"},
                {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            ]
        },
        {"imagePullSecrets": [{"name": "allowed"}], "tls": {"secretName": "allowed"}},
        _mount(secret={"secretName": "allowed"}),
        _mount(projected={"sources": [{"secret": {"name": "allowed"}}, {"configMap": {"name": "any"}}]}),
        _mount(configMap={"name": "any"}),
        {"image": "registry.example.com/ml/a/b:1"},
        {"image": "docker.io/library/exact@sha256:" + "0" * 64},
        {"podAnnotations": {"team": "a", "prometheus.io/scrape": "true"}},
    ],
)
def test_what_the_policy_allows_is_taken(refusal: Refusal, fields: dict[str, Any]) -> None:
    assert refusal(fields) == ""


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"serviceAccountName": "admin"}, "serviceAccountName: the cluster allows models; got admin"),
        (_secret_env("other"), "Secrets: the cluster allows allowed; got other"),
        ({"envFrom": [{"secretRef": {"name": "other"}}]}, "Secrets: the cluster allows allowed; got other"),
        ({"imagePullSecrets": [{"name": "other"}]}, "got other"),
        ({"tls": {"secretName": "other"}}, "got other"),
        (_mount(secret={"secretName": "other"}), "got other"),
        (_mount(projected={"sources": [{"secret": {"name": "allowed"}}, {"secret": {"name": "no"}}]}), "allowed, no"),
        (_mount(csi={"driver": "d", "nodePublishSecretRef": {"name": "no"}}), "volumes: the cluster allows configMap"),
        (_mount(azureFile={"secretName": "no", "shareName": "s"}), "volumes: the cluster allows configMap"),
        (
            {"model": {"s3": {"bucket": "models", "prefix": "p/", "credentialsSecret": {"name": "other"}}}},
            "Secrets: the cluster allows allowed; got other",
        ),
        ({"image": "registry.example.com/mlevil/a:1"}, "images: the cluster allows registry.example.com/ml/"),
        ({"image": "docker.io/library/exactly:1"}, "got docker.io/library/exactly:1"),
        ({"model": {"image": {"reference": "evil.example.com/a:1"}}}, "got evil.example.com/a:1"),
        (_mount(image={"reference": "evil.example.com/a:1"}), "got evil.example.com/a:1"),
        ({"podAnnotations": {"teams": "a"}}, "annotations: the cluster allows team, prometheus.io/; got teams"),
        ({"service": {"annotations": {"cloud.example.com/lb": "x"}}}, "got cloud.example.com/lb"),
        ({"priorityClassName": "system-node-critical"}, "priorityClassName: the cluster allows none; got system-node"),
    ],
)
def test_what_the_policy_does_not_allow_is_refused_by_name(
    refusal: Refusal, fields: dict[str, Any], message: str
) -> None:
    assert message in refusal(fields)


def test_an_object_from_before_the_policy_can_still_be_labelled_and_deleted(
    refusal: Refusal, plane: ControlPlane, helm: Helm
) -> None:
    releases = helm.on(plane.kubeconfig)
    releases("upgrade", *RELEASE[:4], "--set", "policy.enabled=false")
    eventually(lambda: refusal({"serviceAccountName": "admin"}) == "", 30)
    plane.kubectl("apply", "-f", "-", text=json.dumps(runtime("older", serviceAccountName="admin")))
    releases("upgrade", *RELEASE[:4], "--set-json", f"policy={json.dumps(ALLOWED)}")
    eventually(lambda: "serviceAccountName" in refusal({"serviceAccountName": "admin"}), 30)

    plane.kubectl("label", "modelruntime/older", "team=a")
    with pytest.raises(subprocess.CalledProcessError):
        plane.kubectl("patch", "modelruntime/older", "--type=merge", "-p", '{"spec": {"replicas": 2}}')
    plane.kubectl("delete", "modelruntime/older")
