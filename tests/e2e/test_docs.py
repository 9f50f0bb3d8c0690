"""The pages of docs/ as a newcomer types them: every block marked `sh`, in order, in one shell, on the real node."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from charting import ROOT, Helm

from cluster import binaries
from cluster.access import Access

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

RELEASE, HOME = "model-runtime-operator", "model-runtime-system"


@pytest.fixture
def newcomer(node: Access, helm: Helm, chart: list[str], tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of somebody whose kubectl is set to a namespace of their own."""
    name = f"docs-{uuid.uuid4().hex[:8]}"
    node.kubectl("create", "namespace", name)
    config = tmp_path / "kubeconfig"
    config.write_text(node.kubeconfig.read_text())
    config.chmod(0o600)
    programs = binaries.find(["kubectl", "helm"])
    path = os.pathsep.join([*{str(program.parent) for program in programs.values()}, os.environ["PATH"]])
    environment = {**node.environment(), "KUBECONFIG": str(config), "PATH": path}
    subprocess.run(
        [*node.command()[:1], "config", "set-context", "--current", f"--namespace={name}"], env=environment, check=True
    )
    yield environment
    node.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def reinstalled(helm: Helm, chart: list[str]) -> Iterator[None]:
    """The page on the installation uninstalls at its end."""
    helm("uninstall", RELEASE, "--namespace", HOME, "--wait")
    yield
    helm("upgrade", "--install", *chart, "--wait", "--timeout", "120s")


@pytest.mark.usefixtures("reinstalled")
def test_the_page_on_kubernetes_does_what_it_says(newcomer: dict[str, str]) -> None:
    said = _run("kubernetes.md", newcomer)
    assert said.count('{"mean": [3.0], "largest": [2]}') == 3
    assert "nonesuch" in said


def test_the_page_on_sources_does_what_it_says(newcomer: dict[str, str]) -> None:
    assert '{"doubled": [42]}' in _run("sources.md", newcomer)


def test_the_page_on_hydrosphere_does_what_it_says(newcomer: dict[str, str]) -> None:
    assert _run("hydrosphere.md", newcomer).count('{"label": [2]}') == 3


def _run(page: str, environment: dict[str, str]) -> str:
    """Everything that the page's blocks print. Fails with the end of it where one of them fails."""
    blocks = re.findall(r"(?ms)^```sh\n(.*?)^```$", (ROOT / "docs" / page).read_text())
    assert blocks
    script = "\n".join(["set -euo pipefail", *blocks])
    done = subprocess.run(
        ["bash", "-x", "-c", script],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout
