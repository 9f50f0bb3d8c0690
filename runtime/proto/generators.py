"""The code generators of each language, pinned: found in the cache outside the tree, else fetched from the language's registry.

Python's are in grpcio-tools. Go's are built from a pinned module, Java's come from Maven, TypeScript's from npm. Where the
language's build tool is missing, one line names it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "tools"))

from cluster import binaries  # noqa: E402 - the project's tools are no package of this folder's

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "model-runtime" / "stubs"
PROTOC_JAVA = "4.36.2"  # of com.google.protobuf:protoc, whose protobuf-java has the same version
GRPC_JAVA = "1.76.0"
_BUNDLED = (sys.executable, "-m", "grpc_tools.protoc")
_NPM = HERE / "plugins" / "typescript"


class GeneratorMissing(Exception):
    """A generator is not here and cannot be had; the text says what to install."""


class Generator(NamedTuple):
    """How protoc is called for a language: its command with the plugins, and the options for an output folder."""

    command: tuple[str, ...]
    options: Callable[[Path], list[str]]


def python(_packages: dict[str, str]) -> Generator:
    return Generator(
        _BUNDLED, lambda output: [f"--python_out={output}", f"--pyi_out={output}", f"--grpc_python_out={output}"]
    )


def go(packages: dict[str, str]) -> Generator:
    """`packages` is file to Go package: the protos are Hydrosphere's, and name none."""
    try:
        found = binaries.find(["protoc-gen-go", "protoc-gen-go-grpc"])
    except binaries.BinaryMissing as error:
        raise GeneratorMissing(str(error)) from None
    plugins = [f"--plugin={name}={path}" for name, path in found.items()]
    chosen = ["paths=source_relative", *(f"M{file}={package}" for file, package in packages.items())]
    flags = [f"--{flag}_opt={option}" for flag in ("go", "go-grpc") for option in chosen]
    return Generator((*_BUNDLED, *plugins), lambda output: [f"--go_out={output}", f"--go-grpc_out={output}", *flags])


def java(_packages: dict[str, str]) -> Generator:
    protoc = _from_maven("com.google.protobuf:protoc", PROTOC_JAVA)
    plugin = _from_maven("io.grpc:protoc-gen-grpc-java", GRPC_JAVA)
    # Without the annotation javax.annotation.Generated no further package is needed to compile the services.
    return Generator(
        (str(protoc), f"--plugin=protoc-gen-grpc-java={plugin}"),
        lambda output: [f"--java_out={output}", f"--grpc-java_out=@generated=omit:{output}"],
    )


def typescript(_packages: dict[str, str]) -> Generator:
    """Messages and services for @grpc/grpc-js; 64-bit integers are BigInt, so that none is rounded."""
    plugin = _from_npm() / "node_modules" / ".bin" / "protoc-gen-ts_proto"
    chosen = "outputServices=grpc-js,esModuleInterop=true,env=node,forceLong=bigint,importSuffix=.js"
    return Generator(
        (*_BUNDLED, f"--plugin=protoc-gen-ts_proto={plugin}"),
        lambda output: [f"--ts_proto_out={output}", f"--ts_proto_opt={chosen}"],
    )


def _from_maven(artifact: str, version: str) -> Path:
    """Returns a program that Maven publishes for this machine. Maven checks what it fetches."""
    system = {"Linux": "linux", "Darwin": "osx"}.get(platform.system(), "windows")
    machine = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "aarch_64", "arm64": "aarch_64"}.get(
        platform.machine(), ""
    )
    home = CACHE / f"{artifact.rpartition(':')[2]}-{version}-{system}-{machine}"
    if not home.exists():
        coordinates = f"{artifact}:{version}:exe:{system}-{machine}"
        command = ["--batch-mode", "--quiet", "--strict-checksums", "dependency:copy", f"-Dartifact={coordinates}"]
        with _unfinished(home) as folder:
            _run("mvn", [*command, f"-DoutputDirectory={folder}"], f"Maven, for {artifact}", Path(folder))
            [program] = Path(folder).glob("*.exe")
            program.chmod(0o755)
            _finish(Path(folder), home)
    [program] = home.glob("*.exe")
    return program


def _from_npm() -> Path:
    lock = (_NPM / "package-lock.json").read_bytes()
    home = CACHE / f"typescript-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not home.exists():
        with _unfinished(home) as folder:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(_NPM / name, folder)
            _run(
                "npm",
                ["ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"],
                "Node.js with npm",
                Path(folder),
            )
            _finish(Path(folder), home)
    return home


def _run(program: str, arguments: list[str], needs: str, folder: Path) -> None:
    if shutil.which(program) is None:
        raise GeneratorMissing(f"{program} is not on the PATH: install {needs}")
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip("\x1b[0m ")]
        raise GeneratorMissing("\n".join([f"{program} {' '.join(arguments)} failed:", *lines[:5]]))


def _unfinished(home: Path) -> tempfile.TemporaryDirectory[str]:
    CACHE.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=CACHE, prefix=f".{home.name}-", ignore_cleanup_errors=True)


def _finish(folder: Path, home: Path) -> None:
    """Moves a folder to its place at once: another run may be doing the same, and is as good."""
    try:
        folder.rename(home)
    except OSError:
        if not home.exists():
            raise
