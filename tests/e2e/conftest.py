"""A real cluster with the chart installed, and a namespace in it that takes restricted pods only."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from charting import CHART, Helm
from living import Place

from cluster import binaries
from cluster.access import Access

RELEASE, HOME = "model-runtime-operator", "model-runtime-system"


@pytest.fixture(scope="session")
def helm(node: Access, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(binaries.find(["helm"])["helm"], tmp_path_factory.mktemp("helm")).on(node.kubeconfig)


@pytest.fixture(scope="session")
def images(node: Access) -> list[str]:
    """helm's options that name the images of `make images`."""
    return [option for target in ("operator", "runtime") for option in _image(node, target)]


def _image(node: Access, target: str) -> list[str]:
    name, _, digest = node.image(target).partition("@")
    path, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "")
    registry, _, repository = path.rpartition("/")
    values = {f"image.{target}.repository": repository, f"image.{target}.tag": tag, f"image.{target}.digest": digest}
    values["image.registry"] = registry
    return [option for key, value in values.items() if value for option in ("--set", f"{key}={value}")]


@pytest.fixture(scope="session")
def chart(helm: Helm, images: list[str]) -> Iterator[list[str]]:
    """The chart installed as a person installs it; the options with which it was."""
    options = [RELEASE, str(CHART), "--namespace", HOME, "--create-namespace", *images]
    helm("upgrade", "--install", *options, "--wait", "--timeout", "120s")
    yield options
    helm("uninstall", RELEASE, "--namespace", HOME, "--wait", "--ignore-not-found")


@pytest.fixture
def place(node: Access) -> Iterator[Place]:
    """A namespace of this test."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    node.kubectl("create", "namespace", name)
    node.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield Place(node, name)
    node.kubectl("delete", "namespace", name, "--wait=false")
