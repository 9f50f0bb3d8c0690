"""What images are built with, and upon what, on machines that have one thing or another."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import images, packages

DEFAULT = "docker.io/library/python:3.12-slim"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on whose PATH there is nothing but what is put into this folder."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(packages, "_SYSTEM", str(tmp_path))
    monkeypatch.delenv("BASE_IMAGE", raising=False)
    return tmp_path


@pytest.mark.parametrize("builder", ["buildah", "podman", "docker"])
def test_what_is_here_builds(machine: Path, builder: str) -> None:
    _program(machine / builder, "exit 0")

    assert images.find_builder() == builder


def test_docker_without_its_engine_does_not_and_the_package_that_would_is_named(machine: Path) -> None:
    _program(machine / "docker", "exit 1")  # as `docker info` does then

    with pytest.raises(packages.PackageMissing, match="sudo apt-get install -y --no-install-recommends buildah"):
        images.find_builder()


def test_docker_without_its_engine_leaves_it_to_podman(machine: Path) -> None:
    _program(machine / "docker", "exit 1")
    _program(machine / "podman", "exit 0")

    assert images.find_builder() == "podman"


def test_the_base_is_the_one_that_was_named(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASE_IMAGE", "registry.example.com/python:3.13")

    assert images.find_base("buildah") == "registry.example.com/python:3.13"


def test_where_it_can_be_pulled_the_base_is_the_dockerfiles_own(machine: Path) -> None:
    _program(machine / "buildah", f'[ "$1 $2" = "pull {DEFAULT}" ]')

    assert images.find_base("buildah") == ""


def test_where_it_cannot_a_base_that_was_made_here_before_serves(machine: Path) -> None:
    _program(machine / "buildah", f'[ "$1 $3" = "inspect {images.LOCAL_BASE}" ]')

    assert images.find_base("buildah") == images.LOCAL_BASE


def _program(path: Path, does: str) -> None:
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)
