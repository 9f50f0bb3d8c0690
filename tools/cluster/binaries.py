"""The cluster's programs: found where they are, else built from pinned Go modules into a cache outside the tree.

The module files below `modules/` pin every version. The cache is keyed by their content: another version is another folder.
Taken as they are: those in KUBEBUILDER_ASSETS, and those on PATH that say they are of the pinned version.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from . import toolchain

MODULES = Path(__file__).parent / "modules"
CACHE = toolchain.CACHE
KUBERNETES = "v1.36.3"
_VERSION_PACKAGE = "k8s.io/component-base/version"
# Without these a Kubernetes program calls itself v0.0.0-master, which clients refuse.
_KUBERNETES_FLAGS = (
    f"-X {_VERSION_PACKAGE}.gitVersion={KUBERNETES} -X {_VERSION_PACKAGE}.gitMajor=1 -X {_VERSION_PACKAGE}.gitMinor=36"
)
PROGRESS_SECONDS = 15.0


class Program(NamedTuple):
    """One program: the module that pins it, its package, and how it tells its version."""

    module: str
    package: str
    version_flag: str = "--version"


PROGRAMS: dict[str, Program] = {
    "etcd": Program("etcd", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "kube-scheduler": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"),
    "kubectl": Program("kubernetes", "k8s.io/kubernetes/cmd/kubectl", "version --client"),
    "kwok": Program("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    "kstatus": Program("kstatus", "."),  # ours, as pause is: the judge of `tests/operator`
    "kubelet": Program("kubernetes", "k8s.io/kubernetes/cmd/kubelet"),
    "kube-proxy": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-proxy"),
    "containerd": Program("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
    "containerd-shim-runc-v2": Program(
        "containerd", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2", "-v"
    ),
    "ctr": Program("containerd", "github.com/containerd/containerd/v2/cmd/ctr"),
    "pause": Program("pause", "."),
    "registry": Program("registry", "."),  # with fewer parts than the original, as CoreDNS: see their main.go
    "coredns": Program("coredns", "."),
    "metrics-server": Program("metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server"),
    "helm": Program("helm", "helm.sh/helm/v4/cmd/helm", "version"),
    "ghz": Program("ghz", "github.com/bojand/ghz/cmd/ghz"),
    "grpcurl": Program("grpcurl", "github.com/fullstorydev/grpcurl/cmd/grpcurl"),
    "grpc-health-probe": Program("grpc-health-probe", "github.com/grpc-ecosystem/grpc-health-probe", "-version"),
    "protoc-gen-go": Program("protoc", "google.golang.org/protobuf/cmd/protoc-gen-go"),
    "protoc-gen-go-grpc": Program("protoc", "google.golang.org/grpc/cmd/protoc-gen-go-grpc"),
    "promtool": Program("promtool", "github.com/prometheus/prometheus/cmd/promtool"),
    "actionlint": Program("actionlint", "github.com/rhysd/actionlint/cmd/actionlint"),
}
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
# What the everyday tests need, and the node. The others are built when somebody asks for them.
TESTS = (*CONTROL_PLANE, "kwok", "kstatus", "helm", "promtool", "actionlint")
NODE = (
    *CONTROL_PLANE,
    *("kubelet", "kube-proxy", "containerd", "containerd-shim-runc-v2", "ctr", "pause", "registry", "coredns"),
)


class BinaryMissing(Exception):
    """A program is not here and cannot be built; the text says what to do."""


def find(names: Iterable[str]) -> dict[str, Path]:
    """The path of each program; those that are missing are built first, with a line of progress now and then."""
    found = {name: _present(name) for name in names}
    missing = [name for name, path in found.items() if path is None]
    for module in dict.fromkeys(PROGRAMS[name].module for name in missing):
        found.update(_build(module, [name for name in missing if PROGRAMS[name].module == module]))
    return {name: path for name, path in found.items() if path is not None}


def _present(name: str) -> Path | None:
    folders = [Path(folder) for folder in (os.environ.get("KUBEBUILDER_ASSETS"), _home(name)) if folder]
    if given := next((folder / name for folder in folders if (folder / name).is_file()), None):
        return given
    on_path, version = shutil.which(name), pinned_version(name)
    return Path(on_path) if on_path and version and _says(on_path, name, version) else None


def pinned_version(name: str) -> str:
    """The version of the module that a program is from, as its go.mod pins it; empty: the program is ours."""
    program = PROGRAMS[name]
    required = re.findall(
        r"^\s*(?:require )?(\S+) v(\S+)", (MODULES / program.module / "go.mod").read_text(), re.MULTILINE
    )
    return next((version for path, version in required if f"{program.package}/".startswith(f"{path}/")), "")


def _says(program: str, name: str, version: str) -> bool:
    command = [program, *PROGRAMS[name].version_flag.split()]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    return re.search(rf"(?<![\d.]){re.escape(version)}(?![\d.]|-\w)", said) is not None


def _home(name: str) -> Path:
    module = MODULES / PROGRAMS[name].module
    pinned = b"".join(
        file.read_bytes() for file in (module / "go.mod", module / "go.sum", *sorted(module.glob("*.go")))
    )
    return CACHE / f"{module.name}-{hashlib.sha256(pinned).hexdigest()[:12]}"


def _build(module: str, names: list[str]) -> dict[str, Path]:
    """Builds programs of one module at once: what they share is compiled once, and one is linked while another compiles."""
    try:
        go = toolchain.go(MODULES / module)
    except toolchain.NoGo as error:
        raise BinaryMissing(f"{', '.join(names)} must be built, but {error}") from None
    home = _home(names[0])
    home.mkdir(parents=True, exist_ok=True)
    flags = "-s -w " + (_KUBERNETES_FLAGS if module == "kubernetes" else "")
    with tempfile.TemporaryDirectory(dir=home, prefix=".unfinished-") as unfinished:
        # Of several packages the output must be a folder, of one it may be a file, which then has the name that we want.
        output = f"{unfinished}/" if len(names) > 1 else f"{unfinished}/{names[0]}"
        packages = [PROGRAMS[name].package for name in names]
        command = [str(go), "build", "-trimpath", "-ldflags", flags, "-o", output, *packages]
        _run(", ".join(names), command, toolchain.environment(), MODULES / module)
        for name in names:  # atomic: another run may be building the same
            Path(unfinished, name).rename(home / name)
    return {name: home / name for name in names}


def _run(name: str, command: list[str], environment: dict[str, str], folder: Path) -> None:
    started = time.monotonic()
    print(f"building {name} (once)", file=sys.stderr, flush=True)
    done = threading.Event()
    ticker = threading.Thread(target=_tick, args=(name, started, done), daemon=True)
    ticker.start()
    try:
        outcome = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    finally:
        done.set()
        ticker.join()
    if outcome.returncode:
        raise BinaryMissing(f"{name} cannot be built: {outcome.stderr[-2000:]}")
    print(f"built {name} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _tick(name: str, started: float, done: threading.Event) -> None:
    while not done.wait(PROGRESS_SECONDS):
        print(f"  … {name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
