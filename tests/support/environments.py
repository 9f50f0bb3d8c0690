"""Python environments that tests need next to the project's own: made once by uv, kept outside the tree, found again by content.

Other Pythons are those that are on the machine, by uv's rules or from pyenv. CI must have them all; elsewhere a test that
needs one that is absent is skipped, and says so.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parent.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "model-runtime" / "environments"


PYTHONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")  # what a model may bring


def environment(python: str, *requirements: str) -> Path:
    """Returns the interpreter of an environment with `requirements` on that Python ("3.8" … "3.13")."""
    install = ["pip", "install", *requirements] if requirements else []
    return _made(f"{python}-{_hash(python, *requirements)}", python, install)


def locked(python: str, lock: Path) -> Path:
    """Returns the interpreter of an environment with exactly what `lock` lists, each file checked against its hashes."""
    return _made(
        f"{python}-{lock.stem}-{_hash(lock.read_text())}", python, ["pip", "sync", "--require-hashes", str(lock)]
    )


def program(name: str, needs: str) -> str:
    """Returns the path of a program of this machine. Without it a test fails in CI and is skipped elsewhere."""
    return shutil.which(name) or _absent(f"{name} is not on the PATH: install {needs}")


def _hash(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _made(name: str, python: str, install: list[str]) -> Path:
    home = CACHE / name
    if not (home / "bin" / "python").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=CACHE, prefix="new-"))
        try:
            _uv("venv", "--quiet", "--allow-existing", "--relocatable", "--python", interpreter(python), str(made))
            if install:
                _uv(*install, "--quiet", "--python", str(made / "bin" / "python"))
            made.rename(home)
        except OSError:  # another run was first
            if not home.exists():
                raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return home / "bin" / "python"


def interpreter(version: str) -> str:
    """Returns the Python of that version on this machine. Without it a test fails in CI and is skipped elsewhere."""
    found = subprocess.run([uv(), "python", "find", "--no-python-downloads", version], capture_output=True, text=True)
    if found.returncode == 0:
        return found.stdout.strip()
    if pyenv := shutil.which("pyenv"):
        root = Path(subprocess.run([pyenv, "root"], capture_output=True, text=True, check=True).stdout.strip())
        if installed := sorted(root.glob(f"versions/{version}.*/bin/python")):
            return str(installed[-1])
    return _absent(f"Python {version} is not on this machine")


def _absent(message: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def uv() -> str:
    found = shutil.which("uv") or shutil.which("uv", path=str(ROOT / ".tools" / "uv" / "bin"))
    if found is None:
        raise RuntimeError("uv is needed for tests in other environments: `make env` installs it")
    return found


def _uv(*arguments: str) -> None:
    done = subprocess.run([uv(), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"uv {' '.join(arguments)} failed:\n{done.stderr}")
