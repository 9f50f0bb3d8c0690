"""The images as they are built: once more, from nothing, they are the same to the byte."""

from __future__ import annotations

import subprocess

import pytest

from cluster import images
from cluster.access import Access
from cluster.registry import Repository

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]


@pytest.mark.parametrize("target", images.NAMES)
def test_an_image_that_is_built_again_from_nothing_has_the_same_digest(node: Access, target: str) -> None:
    builder = images.find_builder()
    if builder == "docker":
        pytest.skip("docker writes the time of the build into its layers; buildah and podman are told another")
    again = f"localhost/test-again-{target}:1"

    images.build(builder, images.find_base(builder), target, again, is_fresh=True)

    assert _digest(builder, again, node) == node.image(target).rpartition("@")[2]


def _digest(builder: str, image: str, node: Access) -> str:
    """The one by which the registry has it, layers compressed and all, as `make images` leaves it. The local image is removed."""
    path, _, tag = image.removeprefix("localhost/").partition(":")
    subprocess.run([builder, "push", "--tls-verify=false", image, f"docker://{node.push}/{path}:{tag}"], check=True)
    subprocess.run([builder, "rmi", image], check=True)
    return Repository(node.push, path).settle(tag)
