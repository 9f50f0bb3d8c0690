"""Whose cluster tests may touch, and what is said where something is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cluster import access, packages
from cluster.access import NotAllowed
from cluster.node.life import Node, NodeFailed


@pytest.fixture
def production(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump({"current-context": "production"}))
    monkeypatch.setenv("E2E_KUBECONFIG", str(kubeconfig))
    return kubeconfig


@pytest.mark.usefixtures("production")
def test_a_cluster_that_nobody_allowed_is_left_alone() -> None:
    with pytest.raises(NotAllowed, match=r"'production' is not allowed.* E2E_ALLOWED_CONTEXTS=production"):
        access.current()


def test_a_cluster_that_was_allowed_is_used(production: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2E_ALLOWED_CONTEXTS", "staging,production")
    monkeypatch.setenv("E2E_REGISTRY_PUSH", "localhost:5001")
    monkeypatch.setenv("E2E_REGISTRY_PULL", "registry:5000")
    cluster = access.current()

    assert (cluster.kubeconfig, cluster.push, cluster.pull) == (production, "localhost:5001", "registry:5000")
    assert cluster.inside == ()  # nothing of a foreign cluster's nodes is broken by tests


def test_a_kubeconfig_that_is_not_there_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2E_KUBECONFIG", str(tmp_path / "none"))

    with pytest.raises(NotAllowed, match="E2E_KUBECONFIG.*No such file"):
        access.current()


def test_a_node_that_is_down_is_said_to_be(tmp_path: Path) -> None:
    node = Node(tmp_path / "none")

    with pytest.raises(NotAllowed, match="make cluster"):
        access.of_node(node)
    with pytest.raises(NodeFailed, match="not up"):
        node.enter("true")


def test_a_missing_package_names_the_command_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # neither the program nor a package manager

    with pytest.raises(packages.PackageMissing, match="sudo apt-get install -y --no-install-recommends frobnicator"):
        packages.present({"frobnicator": "no-such-program"})


def test_what_is_there_is_not_installed() -> None:
    packages.present({"bash": "bash"})
