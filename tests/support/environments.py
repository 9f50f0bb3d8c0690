"""Python environments that tests need beside the project's own: made once by uv, kept outside the tree, found again by content.

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

import pytest

ROOT = Path(__file__).parent.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "model-runtime" / "environments"


PYTHONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")  # what a model may bring


def environment(python: str, *requirements: str) -> Path:
    """The interpreter of an environment with `requirements` on that Python ("3.8" … "3.13")."""
    key = hashlib.sha256("\n".join([python, *requirements]).encode()).hexdigest()[:16]
    home = CACHE / f"{python}-{key}"
    if not (home / "bin" / "python").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=CACHE, prefix="new-"))
        _uv("venv", "--quiet", "--allow-existing", "--relocatable", "--python", interpreter(python), str(made))
        if requirements:
            _uv("pip", "install", "--quiet", "--python", str(made / "bin" / "python"), *requirements)
        try:
            made.rename(home)
        except OSError:  # another run was first
            shutil.rmtree(made)
    return home / "bin" / "python"


def interpreter(version: str) -> str:
    """The Python of that version on this machine. Without it a test fails in CI and is skipped elsewhere."""
    found = subprocess.run([uv(), "python", "find", "--no-python-downloads", version], capture_output=True, text=True)
    if found.returncode == 0:
        return found.stdout.strip()
    if pyenv := shutil.which("pyenv"):
        root = Path(subprocess.run([pyenv, "root"], capture_output=True, text=True, check=True).stdout.strip())
        if installed := sorted(root.glob(f"versions/{version}.*/bin/python")):
            return str(installed[-1])
    message = f"Python {version} is not on this machine"
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
