"""Where the cluster's programs come from: a folder of one's own, PATH, the cache, or a build."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cluster import binaries, toolchain


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty cache, no Go, no package index, and this one folder on PATH."""
    for module in (binaries, toolchain):
        monkeypatch.setattr(module, "CACHE", tmp_path / "cache")
    for name in ("KUBEBUILDER_ASSETS", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def test_a_folder_of_ones_own_comes_first(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets = tmp_path / "assets"
    assets.mkdir()
    own = _program(assets / "etcd", "etcd Version: 3.5.0")
    _program(bare / "etcd", "etcd Version: 3.6.13")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))

    assert binaries.find(["etcd"]) == {"etcd": own}


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("etcd", "etcd Version: {version}\nGit SHA: Not provided"),
        ("kubectl", "Client Version: v{version}\nKustomize Version: v5.5.0"),
        ("kube-apiserver", "Kubernetes v{version}+k3s1"),
        ("helm", 'version.BuildInfo{{Version:"v{version}", GitCommit:""}}'),
    ],
)
def test_a_program_on_path_is_used_if_it_is_of_the_pinned_version(bare: Path, name: str, answer: str) -> None:
    program = _program(bare / name, answer.format(version=binaries.pinned_version(name)))

    assert binaries.find([name]) == {name: program}


@pytest.mark.parametrize("suffix", ["0", "-rc.1", ".1"])
def test_a_program_of_another_version_is_not_and_what_is_missing_is_said(bare: Path, suffix: str) -> None:
    _program(bare / "kubectl", f"Client Version: v{binaries.pinned_version('kubectl')}{suffix}")

    with pytest.raises(binaries.BinaryMissing, match=r"kubectl must be built, but there is no Go 1\.26\.0 on PATH"):
        binaries.find(["kubectl"])


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """One that asks for Go 1.26.8."""
    (tmp_path / "go.mod").write_text("module example.com/small\n\ngo 1.26.8\n")
    return tmp_path


@pytest.mark.parametrize("version", ["go1.22.12", "go1.26.5"])
def test_a_go_that_is_too_old_is_not_built_with(bare: Path, module: Path, version: str) -> None:
    _program(bare / "go", version)

    with pytest.raises(toolchain.NoGo, match=r"install Go 1\.26\.8 or newer, or .* KUBEBUILDER_ASSETS"):
        toolchain.go(module)


@pytest.mark.parametrize("version", ["go1.26.8", "go1.26.10", "go1.31"])
def test_a_go_that_is_new_enough_is(bare: Path, module: Path, version: str) -> None:
    program = _program(bare / "go", version)

    assert toolchain.go(module) == program


def test_a_program_is_built_once_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "CACHE", tmp_path)
    [program] = binaries.find(["pause"]).values()
    built = program.stat().st_mtime_ns

    assert _ends_when_told(program)
    assert binaries.find(["pause"]) == {"pause": program}
    assert program.stat().st_mtime_ns == built
    assert [path.name for path in program.parent.iterdir()] == ["pause"]


def _ends_when_told(program: Path) -> bool:
    with subprocess.Popen([program]) as running:
        while not _catches(running.pid, signal.SIGTERM):
            assert running.poll() is None
            time.sleep(0.01)
        running.terminate()
    return running.returncode == 0


def _catches(pid: int, number: int) -> bool:
    caught = re.search(r"^SigCgt:\s(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


def _program(path: Path, says: str) -> Path:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path
