"""The pages of docs/ and the README as a newcomer types them: every block marked `sh`, in order, in one shell, on the real node.

`registry.example.com` is read as the cluster's registry, and where there is no Docker, buildah does what `docker` is told.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import storing
from charting import CRD_NAME, INSTALL, ROOT, Helm
from living import Place

from cluster import binaries
from cluster.access import FOLDER, Access
from cluster.node.life import Node

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

RELEASE, HOME = "model-runtime-operator", "model-runtime-system"
DOUBLER = b'def double(x):\n    return {"doubled": 2 * x}\n'  # as docs/sources.md has it
DOCKER = """\
#!/bin/sh
set -e
verb=$1; shift
case $verb in
build) exec buildah bud --isolation=chroot --format=docker "$@" ;;
push) exec buildah push --tls-verify=false "$1" "docker://{push}/${{1#{pull}/}}" ;;
esac
"""


class Newcomer:
    """Somebody with a shell whose kubectl is set to a namespace of their own."""

    def __init__(self, node: Access, place: Place, folder: Path) -> None:
        self.place = place
        self._pull = node.pull
        config = folder / "kubeconfig"
        config.write_text(node.kubeconfig.read_text())
        config.chmod(0o600)
        programs = {program.parent for program in binaries.find(["kubectl", "helm"]).values()}
        path = os.pathsep.join([str(_docker(node, folder)), *map(str, programs), os.environ["PATH"]])
        self.environment = {**node.environment(), "KUBECONFIG": str(config), "PATH": path}
        self.types([f"kubectl config set-context --current --namespace={place.namespace}"])

    def follows(self, page: str) -> str:
        """Everything that the page's blocks print. Fails with the end of it where one of them fails."""
        blocks = re.findall(r"(?ms)^```sh\n(.*?)^```$", (ROOT / "docs" / page).read_text())
        assert blocks
        return self.types(blocks)

    def types(self, blocks: list[str]) -> str:
        leave_nothing = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"
        script = "\n".join(["set -euo pipefail", leave_nothing, *blocks]).replace("registry.example.com", self._pull)
        done = subprocess.run(
            ["bash", "-x", "-c", script],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout


def _docker(node: Access, folder: Path) -> Path:
    """A folder for the PATH; in it a `docker` where there is none that works."""
    programs = folder / "programs"
    programs.mkdir()
    if shutil.which("buildah"):
        program = programs / "docker"
        program.write_text(DOCKER.format(push=node.push, pull=node.pull))
        program.chmod(0o755)
    return programs


@pytest.fixture
def newcomer(node: Access, helm: Helm, chart: list[str], tmp_path: Path) -> Iterator[Newcomer]:
    name = f"docs-{uuid.uuid4().hex[:8]}"
    node.kubectl("create", "namespace", name)
    yield Newcomer(node, Place(node, name), tmp_path)
    node.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def untouched(helm: Helm, chart: list[str], node: Access) -> Iterator[None]:
    """A cluster that has never seen any of it, for the test to install what it likes."""
    helm("uninstall", RELEASE, "--namespace", HOME, "--wait")
    node.kubectl("delete", "namespace", HOME)
    node.kubectl("delete", "crd", CRD_NAME)
    yield
    node.kubectl("delete", "-f", str(INSTALL), "--ignore-not-found")
    helm("upgrade", "--install", *chart, "--wait", "--timeout", "120s")


@pytest.fixture
def reinstalled(helm: Helm, chart: list[str]) -> Iterator[None]:
    """The page on the installation upgrades, and uninstalls at its end."""
    helm("uninstall", RELEASE, "--namespace", HOME, "--wait")
    yield
    helm("upgrade", "--install", *chart, "--wait", "--timeout", "120s")


@pytest.mark.usefixtures("untouched")
def test_the_readmes_quick_start_says_what_it_shows(newcomer: Newcomer) -> None:
    if not Node(FOLDER).running:
        pytest.skip("the README speaks of the node that this project brings up")
    _, _, section = (ROOT / "README.md").read_text().partition("## On Kubernetes")
    console = re.search(r"(?ms)^```console\n(.*?)^```$", section)
    assert console
    typed = [line.removeprefix("$ ") for line in console[1].splitlines() if line.startswith("$ ")]
    assert typed[0].startswith("make cluster images ")  # done: else there would be no node
    assert typed[1].startswith("export KUBECONFIG=")  # done: the newcomer's has a namespace besides
    shown = [line for line in console[1].splitlines() if not line.startswith("$ ")]
    said = newcomer.types(typed[2:])
    assert shown
    assert [line for line in shown if line in said.splitlines()] == shown


def test_the_charts_notes_lead_to_a_first_answer(newcomer: Newcomer, helm: Helm, chart: list[str]) -> None:
    """What `helm install` prints: its commands are the lines set in by five."""
    notes = helm("get", "notes", RELEASE, "--namespace", HOME)
    typed = [line[5:] for line in notes.splitlines() if line.startswith("     ")]
    assert len(typed) > 5
    said = newcomer.types(typed)
    assert '{"doubled": [42]}' in said


@pytest.mark.usefixtures("reinstalled")
def test_the_page_on_kubernetes_does_what_it_says(newcomer: Newcomer) -> None:
    said = newcomer.follows("kubernetes.md")
    assert said.count('{"largest": [2], "mean": [3.0]}') == 3
    assert "nonesuch" in said
    assert "model_runtime_serving 1.0" in said
    assert re.search(r'model_runtime_operator_modelruntimes\{reason="Available"\} [1-9]', said)


def test_the_page_on_sources_does_what_it_says(newcomer: Newcomer, tmp_path: Path) -> None:
    storing.put(newcomer.place, tmp_path, "models", {"doubler/1/src/func_main.py": DOUBLER})
    said = newcomer.follows("sources.md")
    answers = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert answers == [*({"doubled": [2 * x]} for x in (21, 22, 23, 24, 25)), {"text": "1.2 million"}]


def test_the_page_on_pods_does_what_it_says(newcomer: Newcomer) -> None:
    assert '{"largest": [2], "mean": [3.0]}' in newcomer.follows("pods.md")


def test_the_page_on_hydrosphere_does_what_it_says(newcomer: Newcomer) -> None:
    said = newcomer.follows("hydrosphere.md")
    assert said.count('{"label": [2]}') == 3
    assert '{"y": [2, 4]}' in said


def test_the_page_on_developing_runtimes_does_what_it_says(newcomer: Newcomer) -> None:
    said = newcomer.follows("develop-runtimes.md")
    assert said.count('{"y": [1.0]}') == 2
    assert " passed, 0 failed" in said


def test_the_page_on_operating_does_what_it_says(newcomer: Newcomer) -> None:
    said = newcomer.follows("operating.md")
    assert " passed, 0 failed" in said
    assert "model_runtime_serving 1.0" in said
