"""Builds the Dockerfile's targets and pushes them to a cluster's registry, with buildah, podman or docker, whichever works here.

The base image is BASE_IMAGE where it is set; else the Dockerfile's own default; where that cannot be pulled, a Debian made here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from . import packages
from .access import Access
from .registry import Repository

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = ROOT / "Dockerfile"
NAMES = {"runtime": "model-runtime", "operator": "model-runtime-operator"}  # target: image
LOCAL_BASE = "localhost/model-runtime-base:1"
BASE_PACKAGES = "python3,python3-venv,ca-certificates"
PULL_SECONDS = 300.0  # of the base image: who has no way to its registry may be told by silence only
# Without these a build behind a proxy or with certificates of its own reaches no package index.
_PASSED_ON = ("SSL_CERT_FILE", "PIP_CERT", "PIP_INDEX_URL", "UV_DEFAULT_INDEX")
_BUILDAH = [
    "--isolation=chroot",
    "--format=docker",
    "--layers",
    "--timestamp=0",
]  # only docker's format has HEALTHCHECK
_NOT_IN_THE_BASE = (
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
)
_BUILD = {
    "buildah": ["buildah", "bud", *_BUILDAH],
    "podman": ["podman", "build", *_BUILDAH],
    # Without what it adds about the build itself: then a tag is an index, of which nobody here makes use.
    "docker": ["env", "BUILDX_NO_DEFAULT_ATTESTATIONS=1", "docker", "build"],
}


class ImageFailed(Exception):
    """An image cannot be built or pushed; the text holds the builder's last lines."""


def publish(access: Access) -> dict[str, str]:
    """Builds and pushes every target. Returns the names by which pods pull them, with their digests."""
    builder = find_builder()
    base = find_base(builder)
    pushed = {target: _publish(builder, base, target, access) for target in NAMES}
    access.images.parent.mkdir(parents=True, exist_ok=True)
    access.images.write_text(json.dumps(pushed, indent=1))
    return pushed


def version() -> str:
    """The distribution's, which the images bear."""
    return metadata.version("model-runtime")


def publish_folder(access: Access, folder: Path, name: str) -> str:
    """Builds a folder that has a Dockerfile, and pushes it. Returns the name by which pods pull it."""
    builder = find_builder()
    local = f"localhost/{name}:{version()}"
    _run([*_BUILD[builder], f"--tag={local}", str(folder)])
    return _push(builder, name, access)


def _publish(builder: str, base: str, target: str, access: Access) -> str:
    build(builder, base, target, f"localhost/{NAMES[target]}:{version()}")
    return _push(builder, NAMES[target], access)


def _push(builder: str, name: str, access: Access) -> str:
    path = f"library/{name}"  # where a bare name leads
    remote = f"{access.push}/{path}:{version()}"
    insecure = [] if builder == "docker" else ["--tls-verify=false"]  # docker takes loopback for safe
    _run([builder, "tag", f"localhost/{name}:{version()}", remote])
    _run([builder, "push", *insecure, remote])
    _run([builder, "rmi", remote])  # the port is another one next time
    digest = Repository(access.push, path).settle(version())
    access.pull_again(f"docker.io/{path}:{version()}")
    print(f"pushed {name}:{version()}", file=sys.stderr, flush=True)
    return f"{access.pull}/{path}@{digest}"


def build(builder: str, base: str, target: str, name: str, *, is_fresh: bool = False) -> None:
    """Builds one target of the Dockerfile under a local name; a fresh one of nothing that was built before."""
    print(f"building the image {name} upon {base or 'its own base'}", file=sys.stderr, flush=True)
    arguments = {"VERSION": version(), **{key: os.environ[key] for key in _PASSED_ON if key in os.environ}}
    if base:
        arguments["BASE_IMAGE"] = base
    flags = [flag for key, value in arguments.items() for flag in ("--build-arg", f"{key}={value}")]
    certificates = arguments.get("SSL_CERT_FILE") or arguments.get("PIP_CERT")
    if certificates and builder != "docker":
        folder = Path(certificates).parent
        flags.append(f"--volume={folder}:{folder}:ro")
    if is_fresh:
        flags.append("--no-cache")
    _run([*_BUILD[builder], f"--file={DOCKERFILE}", f"--target={target}", f"--tag={name}", *flags, str(ROOT)])


def find_builder() -> str:
    """buildah, podman or docker, whichever works here; where none does buildah is installed."""
    if found := next((name for name in _BUILD if _works(name)), None):
        return found
    packages.present(packages.BUILDER)
    return "buildah"


def _works(builder: str) -> bool:
    """docker's command may be here without its engine."""
    if not shutil.which(builder):
        return False
    return builder != "docker" or subprocess.run(["docker", "info"], capture_output=True).returncode == 0


def find_base(builder: str) -> str:
    """The base to build upon; empty: the Dockerfile's own."""
    if chosen := os.environ.get("BASE_IMAGE"):
        return chosen
    if _has(builder, LOCAL_BASE):
        return LOCAL_BASE
    default = re.search(r"^ARG BASE_IMAGE=(\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    assert default, "the Dockerfile names its base"
    if _pulls(builder, default[1]):
        return ""
    print(f"{default[1]} cannot be pulled: making a Debian with Python here (about two minutes, once)", file=sys.stderr)
    _make_base(builder)
    return LOCAL_BASE


def _pulls(builder: str, image: str) -> bool:
    try:
        return subprocess.run([builder, "pull", image], capture_output=True, timeout=PULL_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _has(builder: str, image: str) -> bool:
    kind = ["image", "inspect"] if builder == "docker" else ["inspect", "--type=image"]
    return subprocess.run([builder, *kind, image], capture_output=True).returncode == 0


def _make_base(builder: str) -> None:
    """A minimal Debian of the host's own release, with its Python, as a local image."""
    release = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    if os.geteuid() or not release:
        raise ImageFailed("a base can be made by root on Debian only: name one that can be pulled, BASE_IMAGE=…")
    packages.present(packages.BASE)
    with tempfile.TemporaryDirectory(prefix="base-image-") as folder:
        root, recipe = Path(folder, "root"), Path(folder, "Containerfile")
        _run(["debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", release[1], str(root)])
        for leftover in _NOT_IN_THE_BASE:
            shutil.rmtree(root / leftover, ignore_errors=True)
        recipe.write_text("FROM scratch\nCOPY . /\n")
        _run([*_BUILD[builder], f"--file={recipe}", f"--tag={LOCAL_BASE}", str(root)])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode:
        raise ImageFailed(f"{' '.join(command[:3])} … failed with {done.returncode}:\n{done.stdout[-3000:]}")
