"""What every test may ask for: a real Kubernetes API server or a whole node, shared by the session, and a namespace in it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from cluster import access, images
from cluster.access import Access
from cluster.controlplane import ControlPlane
from cluster.node.life import Node


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """etcd, kube-apiserver and kube-controller-manager, for the whole session. Built first where they are missing."""
    with ControlPlane() as plane:
        yield plane


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A namespace for one test."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    control_plane.kubectl("create", "namespace", name)
    yield name
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def node() -> Iterator[Access]:
    """A whole cluster with our images: the one that the environment names, the one that runs, else one for this session.

    The images are those that `make images` pushed last; a cluster that has none gets them. `make e2e` prepares both.
    """
    own = Node(access.FOLDER, tied=True)
    started = "E2E_KUBECONFIG" not in os.environ and not own.running
    try:
        if started:
            own.up()
        cluster = access.current()
        if not cluster.images.exists():
            images.publish(cluster)
        yield cluster
    finally:
        if started:
            own.down()


@pytest.fixture
def node_namespace(node: Access) -> Iterator[str]:
    """A namespace of the whole cluster for one test, which admits only what Pod Security's `restricted` does."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    node.kubectl("create", "namespace", name)
    node.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    node.kubectl("delete", "namespace", name, "--wait=false")
