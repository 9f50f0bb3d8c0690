"""helm over the real chart, and an API server that no other test has put our CRD on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from charting import CHART, Helm

from cluster import binaries
from cluster.controlplane import ControlPlane


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """helm without a cluster: it lints and renders."""
    return Helm(binaries.find(["helm"])["helm"], tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """An API server of these tests' own: a release wants the CRD for itself."""
    with ControlPlane() as plane:
        yield plane


@pytest.fixture
def releases(helm: Helm, plane: ControlPlane) -> Iterator[Helm]:
    """helm on that API server; what a test installed, and the CRD, is gone after it."""
    installed = helm.on(plane.kubeconfig)
    yield installed
    installed.uninstall_all()
    plane.kubectl("delete", "crd", "-l", "app.kubernetes.io/part-of=model-runtime", "--ignore-not-found", "--wait=true")


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """A copy of the chart that a test may change."""
    return Path(shutil.copytree(CHART, tmp_path / "chart"))
