"""The operator's own life on a real node: installed by chart and by manifest, upgraded, lost, taken away. No model notices."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from charting import CHART, INSTALL, Helm
from living import Place, doubler
from operating import eventually

from cluster.access import FOLDER, Access
from cluster.images import version
from cluster.node.life import Node

pytestmark = [pytest.mark.node, pytest.mark.timeout(400)]

RELEASE, HOME = "model-runtime-operator", "model-runtime-system"
PREVIOUS = "0.0.9"
SIGNATURE = "name: Signature,"  # a column


def test_helm_test_gets_a_prediction(chart: list[str], helm: Helm) -> None:
    said = helm("test", RELEASE, "--namespace", HOME, "--timeout", "120s", "--logs")
    assert '{"doubled": [2, 42]}' in said
    assert "Succeeded" in said


KEPT = ("--set", f"image.runtime.tag={PREVIOUS}")  # as docs/kubernetes.md has it: the operator alone is upgraded


@pytest.fixture
def previous(helm: Helm, chart: list[str], tmp_path: Path) -> Iterator[None]:
    """The release is of the version before: other labels, a CustomResourceDefinition that lacks something."""
    old = Path(shutil.copytree(CHART, tmp_path / "chart"))
    about, crd = old / "Chart.yaml", old / "files" / "crd.yaml"
    about.write_text(about.read_text().replace(f"ersion: {version()}", f"ersion: {PREVIOUS}"))
    crd.write_text("".join(line for line in crd.read_text().splitlines(True) if SIGNATURE not in line))
    options = [str(old) if option == str(CHART) else option for option in chart]
    helm("upgrade", *options, *KEPT, "--wait", "--timeout", "120s")
    yield
    helm("upgrade", *chart, "--wait", "--timeout", "120s", "--reset-values")


@pytest.mark.usefixtures("previous")
def test_an_upgrade_of_the_chart_from_the_version_before_renews_the_operator_and_moves_no_model(
    chart: list[str], helm: Helm, place: Place, node: Access
) -> None:
    place.apply(doubler(replicas=2))
    place.ready("doubler")
    before = _facts(place)
    operator = _operators(node)
    assert "SIGNATURE" not in place.kubectl("get", "modelruntimes", "-o", "wide")

    helm("upgrade", *chart, *KEPT, "--wait", "--timeout", "120s", "--set", "log.level=debug,replicas=2,workers=4")

    eventually(lambda: not set(operator) & set(_operators(node)), 90)
    place.apply(doubler("another"))  # once this one is served, the new operator has looked at all
    place.ready("another")
    assert _facts(place) == before
    assert "SIGNATURE" in place.kubectl("get", "modelruntimes", "-o", "wide")


def _facts(place: Place) -> dict[str, object]:
    deployment = place.get("deployment", "doubler")
    return {
        "pods": place.pod_names("doubler"),
        "deployment": deployment["metadata"]["generation"],
        "status": place.get("modelruntime", "doubler")["status"],
    }


def _operators(node: Access) -> list[str]:
    selector = ("-n", HOME, "-l", "app.kubernetes.io/name=model-runtime-operator")
    return node.kubectl("get", "pods", *selector, "-o", "jsonpath={.items[*].metadata.name}").split()


def test_a_killed_operator_is_followed_and_models_are_not_disturbed(
    chart: list[str], place: Place, node: Access
) -> None:
    place.apply(doubler())
    place.ready("doubler")
    before = _facts(place)
    eventually(lambda: len(_operators(node)) == 1, 90)  # those of the test before may still be leaving
    [operator] = _operators(node)
    node.kubectl("-n", HOME, "delete", "pod", operator, "--now")
    began = time.monotonic()
    place.apply(doubler("another"))
    place.ready("another", 90)
    print(f"another model served {time.monotonic() - began:.1f} s after the operator was killed")
    assert _facts(place) == before


@pytest.fixture
def installed_again(helm: Helm, chart: list[str]) -> Iterator[None]:
    yield
    helm("upgrade", "--install", *chart, "--wait", "--timeout", "120s")


@pytest.mark.usefixtures("installed_again")
def test_uninstalling_the_chart_leaves_models_serving(chart: list[str], helm: Helm, place: Place) -> None:
    place.caller()
    place.apply(doubler())
    place.ready("doubler")
    before = _facts(place)
    helm("uninstall", RELEASE, "--namespace", HOME, "--wait")
    assert place.predict("doubler", "x=[21]") == {"y": [42]}
    assert _facts(place) == before


@pytest.mark.usefixtures("installed_again")
def test_the_manifest_installs_the_operator_without_helm(
    helm: Helm, chart: list[str], place: Place, node: Access
) -> None:
    helm("uninstall", RELEASE, "--namespace", HOME, "--wait")
    node.kubectl("delete", "namespace", HOME, "--ignore-not-found")
    manifest = INSTALL.read_text() if Node(FOLDER).running else _with_images(INSTALL.read_text(), node)
    try:
        node.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", text=manifest)
        node.kubectl("-n", HOME, "rollout", "status", f"deployment/{RELEASE}", "--timeout=90s")
        place.caller()
        place.apply(doubler())
        place.ready("doubler")
        assert place.predict("doubler", "x=[21]") == {"y": [42]}
    finally:
        kept = [part for part in manifest.split("\n---\n") if "kind: CustomResourceDefinition" not in part]
        node.kubectl("delete", "-f", "-", "--ignore-not-found", text="\n---\n".join(kept))


def _with_images(manifest: str, node: Access) -> str:
    """As a person does whose images are in a registry."""
    named = manifest.replace("model-runtime-operator:0.1.0", node.image("operator"))
    return named.replace('"model-runtime:0.1.0"', json.dumps(node.image("runtime")))


@pytest.fixture
def own_node() -> Node:
    """The node of tools/cluster, whose programs and containers may be killed."""
    found = Node(FOLDER)
    if not found.running:
        pytest.skip("a cluster of one's own: its programs are not ours to kill")
    return found


def test_models_serve_on_while_containerd_and_the_kubelet_are_killed(
    chart: list[str], place: Place, own_node: Node
) -> None:
    place.apply(doubler(replicas=2))
    place.ready("doubler")
    before = place.pod_names("doubler")
    with place.load("doubler", calls=6000, rate=200) as load:
        for program in ("kubelet", "containerd"):
            load.passed(300)
            _inside(own_node, f"kill -KILL $(pidof {program})")
        load.passed(2000)
        account = load.account()
    assert (account["lost"], account["wrong"]) == (0, 0), json.dumps(account)
    place.apply(doubler("another"))
    place.ready("another", 120)
    assert place.pod_names("doubler") == before


def test_a_killed_container_costs_clients_that_try_again_nothing_and_comes_back(
    chart: list[str], place: Place, own_node: Node
) -> None:
    place.apply(doubler(replicas=2))
    place.ready("doubler")
    pod = place.pod_names("doubler")[0]
    container = place.get("pod", pod)["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    with place.load("doubler", calls=6000, clients=4, rate=200, retries=True) as load:
        load.passed(300)
        _inside(own_node, f"ctr --namespace k8s.io tasks kill --signal SIGKILL {container}")
        load.passed(2000)
        account = load.account()
    assert (account["lost"], account["wrong"]) == (0, 0), json.dumps(account)
    eventually(lambda: place.get("pod", pod)["status"]["containerStatuses"][0]["restartCount"] == 1, 30)
    assert place.ready("doubler", 60)["status"]["readyReplicas"] == 2


def _inside(node: Node, command: str) -> None:
    done = subprocess.run(node.enter("sh", "-c", command), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
