"""Clients in other languages: their stubs made as `make stubs` makes them, their libraries pinned and cached outside the tree."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import environments

from cluster import toolchain

CLIENTS = environments.ROOT / "tests" / "clients"
SCRIPT = environments.ROOT / "runtime" / "proto" / "stubs.py"
BUILD_SECONDS = 300
MAVEN = ("mvn", "--batch-mode", "--quiet", "--strict-checksums")


def stubs(language: str, folder: Path, *eras: str, go_package: str = "") -> None:
    """Writes the language's stubs of those eras to `folder`/stubs."""
    options = ["--output", str(folder), *(["--go-package", go_package] if go_package else [])]
    for era in eras:
        _run(sys.executable, str(SCRIPT), language, "--era", era, *options, cwd=folder)
    (folder / language).rename(folder / "stubs")


def go(folder: Path) -> list[str]:
    """Returns the command of the Go client, built in `folder`."""
    shutil.copytree(CLIENTS / "go", folder, dirs_exist_ok=True)
    stubs("go", folder, "v2", "v3", "open_inference", go_package="clients/stubs")
    program = toolchain.go(folder)
    _run(str(program), "build", "-mod=readonly", "-o", "client", ".", cwd=folder, env=toolchain.environment())
    return [str(folder / "client")]


def typescript(folder: Path) -> list[str]:
    """Returns the command of the Node.js client, compiled in `folder`."""
    node, npm = environments.program("node", "Node.js"), environments.program("npm", "Node.js with npm")
    shutil.copytree(CLIENTS / "typescript", folder, dirs_exist_ok=True)
    stubs("typescript", folder, "v2", "open_inference")

    def install(place: Path) -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(CLIENTS / "typescript" / name, place)
        _run(npm, "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", cwd=place)

    libraries = _cached("typescript", CLIENTS / "typescript" / "package-lock.json", install)
    (folder / "node_modules").symlink_to(libraries / "node_modules")
    _run(node, "node_modules/typescript/bin/tsc", cwd=folder)
    return [node, str(folder / "built" / "client.js")]


def java(folder: Path) -> list[str]:
    """Returns the command of the Java client, compiled in `folder`."""
    environments.program("mvn", "Maven")
    javac, run = environments.program("javac", "a JDK"), environments.program("java", "a JDK")
    stubs("java", folder, "v2", "open_inference")

    def install(place: Path) -> None:
        pom = str(CLIENTS / "java" / "pom.xml")
        _run(*MAVEN, "-f", pom, "dependency:copy-dependencies", f"-DoutputDirectory={place}", cwd=folder)

    libraries = f"{_cached('java', CLIENTS / 'java' / 'pom.xml', install)}/*"
    sources = [str(CLIENTS / "java" / "Client.java"), *map(str, (folder / "stubs").rglob("*.java"))]
    _run(javac, "-nowarn", "-d", "built", "-cp", libraries, *sources, cwd=folder)
    return [run, "-cp", f"{folder / 'built'}:{libraries}", "Client"]


def _cached(name: str, lock: Path, install: Callable[[Path], None]) -> Path:
    home = environments.CACHE / f"{name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    if not home.exists():
        environments.CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=environments.CACHE, prefix="new-", ignore_cleanup_errors=True) as place:
            install(Path(place))
            try:
                Path(place).rename(home)
            except OSError:  # another run was first
                if not home.exists():
                    raise
    return home


def _run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=BUILD_SECONDS)
    assert done.returncode == 0, f"{' '.join(command[:6])} failed:\n{(done.stdout + done.stderr)[-3000:]}"
