"""The chart and manifests/install.yaml on a real API server: accepted strictly, installed, upgraded, uninstalled."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from charting import CHART, CRD_NAME, EVERYTHING, INSTALL, Helm, of_kind
from operating import await_established, eventually, runtime

from cluster.controlplane import ControlPlane

pytestmark = pytest.mark.apiserver

RELEASE = ("mro", str(CHART), "--namespace", "model-runtime-system", "--create-namespace")


@pytest.fixture
def restricted(plane: ControlPlane) -> Iterator[str]:
    """A namespace that takes restricted pods only."""
    name = f"operators-{uuid.uuid4().hex[:8]}"
    plane.kubectl("create", "namespace", name)
    plane.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize(
    "options",
    [(), EVERYTHING, ("-f", str(CHART / "values-ha.yaml")), ("--set", "watchNamespaces={default,kube-public}")],
    ids=["defaults", "everything", "ha", "namespaced"],
)
def test_the_api_server_accepts_every_rendered_object_strictly(
    helm: Helm, plane: ControlPlane, restricted: str, options: tuple[str, ...]
) -> None:
    rendered = helm.render(*options, "--skip-tests", namespace=restricted)
    said = plane.kubectl(*_dry("apply", "--server-side"), "-f", "-", text=_list(rendered))
    assert said.count("serverside-applied (server dry run)") == len(rendered)


def test_pod_security_restricted_takes_the_operators_and_the_tests_pods(
    helm: Helm, plane: ControlPlane, restricted: str
) -> None:
    rendered = helm.render(namespace=restricted)
    [deployment], [test] = of_kind(rendered, "Deployment"), of_kind(rendered, "Pod")
    template = deployment["spec"]["template"]
    operator = {"apiVersion": "v1", "kind": "Pod", **template}
    operator["metadata"] = {**template["metadata"], "name": "operator", "namespace": restricted}
    operator["spec"] = {**template["spec"], "serviceAccountName": "default"}
    assert "pod/operator created" in plane.kubectl(*_dry("create"), "-f", "-", text=json.dumps(operator))
    assert "created" in plane.kubectl(*_dry("create"), "-f", "-", text=json.dumps(test))


def test_the_tests_model_runtime_is_one_that_the_api_accepts(releases: Helm, plane: ControlPlane) -> None:
    releases("install", *RELEASE)
    [model] = of_kind(releases.render("-s", "templates/tests/prediction.yaml", namespace="default"), "ModelRuntime")
    assert "created" in plane.kubectl(*_dry("create"), "-f", "-", text=json.dumps(model))


def test_uninstalling_keeps_the_crd_and_every_model_runtime(releases: Helm, plane: ControlPlane) -> None:
    said = releases("install", *RELEASE)
    assert "helm test -n model-runtime-system mro" in said
    await_established(plane, CRD_NAME)
    plane.kubectl("apply", "-f", "-", text=json.dumps(runtime("survivor")))

    said = releases("uninstall", "mro", "--namespace", "model-runtime-system")

    assert CRD_NAME in said
    assert "survivor" in plane.kubectl("get", "modelruntimes", "-o", "name")
    left = plane.kubectl("get", "all,sa,cm,role,rolebinding", "-n", "model-runtime-system", "-l", OURS, "-o", "name")
    assert left == ""
    assert plane.kubectl("get", "clusterrole,clusterrolebinding", "-l", OURS, "-o", "name") == ""
    releases("install", *RELEASE)  # and the same release takes it up again
    assert "survivor" in plane.kubectl("get", "modelruntimes", "-o", "name")


OURS = "app.kubernetes.io/instance=mro"


def test_uninstalling_takes_the_crd_along_where_that_was_asked_for(releases: Helm, plane: ControlPlane) -> None:
    releases("install", *RELEASE, "--set", "crds.keep=false")
    releases("uninstall", "mro", "--namespace", "model-runtime-system")
    eventually(lambda: plane.kubectl("get", "crd", CRD_NAME, "--ignore-not-found") == "", 20)


def test_an_upgrade_of_the_chart_upgrades_the_crd_and_no_model_runtime(
    releases: Helm, plane: ControlPlane, chart: Path
) -> None:
    older = chart / "files" / "crd.yaml"
    older.write_text("".join(line for line in older.read_text().splitlines(True) if "name: Signature," not in line))
    releases("install", "mro", str(chart), *RELEASE[2:])
    await_established(plane, CRD_NAME)
    plane.kubectl("apply", "-f", "-", text=json.dumps(runtime("kept")))
    before = _object(plane, "modelruntime", "kept")
    assert "Signature" not in _columns(plane)

    releases("upgrade", *RELEASE[:4])

    assert "Signature" in _columns(plane)
    assert _object(plane, "modelruntime", "kept") == before


def test_an_upgrade_that_changes_nothing_restarts_no_operator(releases: Helm, plane: ControlPlane) -> None:
    releases("install", *RELEASE)
    before = _object(plane, "deployment", "mro-model-runtime-operator", "model-runtime-system")
    releases("upgrade", *RELEASE[:4])
    after = _object(plane, "deployment", "mro-model-runtime-operator", "model-runtime-system")
    assert after["metadata"]["generation"] == before["metadata"]["generation"] == 1


def test_two_releases_share_a_cluster_when_one_of_them_has_the_crd(releases: Helm, plane: ControlPlane) -> None:
    for team in ("team-a", "team-b"):
        plane.kubectl("create", "namespace", team)
    releases("install", "mro", str(CHART), "-n", "team-a", "--set", "watchNamespaces={team-a}")
    second = ("install", "mro", str(CHART), "-n", "team-b", "--set", "watchNamespaces={team-b}")
    assert f'CustomResourceDefinition "{CRD_NAME}"' in releases.refusal(*second)

    said = releases(*second, "--set", "crds.install=false")

    assert "not part of this release" in said
    deployments = plane.kubectl("get", "deployment", "-A", "-l", OURS, "-o", "jsonpath={.items[*].metadata.namespace}")
    assert deployments.split() == ["team-a", "team-b"]


def test_install_yaml_applies_alone_and_again_without_a_change(plane: ControlPlane) -> None:
    apply = ("apply", "--server-side", "--field-manager=helm", "--validate=strict", "-f", str(INSTALL))
    try:
        _applied(plane, *apply)
        before = {item["kind"]: item["metadata"].get("generation") for item in _installed(plane)}
        _applied(plane, *apply)
        assert {item["kind"]: item["metadata"].get("generation") for item in _installed(plane)} == before
        assert not [item for item in _installed(plane) if "Helm" in json.dumps(item)]
    finally:
        plane.kubectl("delete", "-f", str(INSTALL), "--ignore-not-found", "--wait=true")


def test_the_way_from_install_yaml_to_helm_and_back_has_no_conflict(releases: Helm, plane: ControlPlane) -> None:
    release = ("model-runtime-operator", str(CHART), "--namespace", "model-runtime-system")
    apply = ("apply", "--server-side", "--field-manager=helm", "-f", str(INSTALL))
    try:
        _applied(plane, *apply)
        await_established(plane, CRD_NAME)
        plane.kubectl("apply", "-f", "-", text=json.dumps(runtime("kept")))
        kept, uid = _object(plane, "modelruntime", "kept"), _object(plane, "crd", CRD_NAME)["metadata"]["uid"]
        for _ in range(2):  # there and back, and there again
            releases("upgrade", "--install", *release, "--take-ownership")
            releases("upgrade", *release, "--set", "replicas=2,workers=4")
            releases("upgrade", *release, "--set", "replicas=1")
            _applied(plane, *apply)
            plane.kubectl("-n", "model-runtime-system", "delete", "secret", "-l", "owner=helm")
            assert not [item for item in _installed(plane) if "Helm" in json.dumps(item)]
        assert _object(plane, "modelruntime", "kept") == kept
        assert _object(plane, "crd", CRD_NAME)["metadata"]["uid"] == uid
    finally:
        plane.kubectl("delete", "-f", str(INSTALL), "--ignore-not-found", "--wait=true")


def _installed(plane: ControlPlane) -> list[dict[str, Any]]:
    """What install.yaml names, as the API server has it."""
    found = json.loads(plane.kubectl("get", "-f", str(INSTALL), "-o", "json"))["items"]
    assert len(found) == len(list(yaml.safe_load_all(INSTALL.read_text())))
    return list(found)


def _applied(plane: ControlPlane, *command: str) -> None:
    try:
        plane.kubectl(*command)
    except subprocess.CalledProcessError as error:
        pytest.fail(error.stderr)


def _dry(verb: str, *options: str) -> tuple[str, ...]:
    return (verb, *options, "--dry-run=server", "--validate=strict")


def _list(objects: list[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def _object(plane: ControlPlane, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(plane.kubectl("get", kind, name, "-n", namespace, "-o", "json"))
    return found


def _columns(plane: ControlPlane) -> list[str]:
    [version] = _object(plane, "crd", CRD_NAME)["spec"]["versions"]
    return [column["name"] for column in version["additionalPrinterColumns"]]
