"""Python environments that tests need beside the project's own: made once by uv, kept outside the tree, found again by content."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "model-runtime" / "environments"


def environment(python: str, *requirements: str) -> Path:
    """The interpreter of an environment with `requirements` on that Python ("3.8" … "3.13"). Fails loudly if it cannot be made."""
    key = hashlib.sha256("\n".join([python, *requirements]).encode()).hexdigest()[:16]
    home = CACHE / f"{python}-{key}"
    if not (home / "bin" / "python").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=CACHE, prefix="new-"))
        _uv("venv", "--quiet", "--allow-existing", "--relocatable", "--python", python, str(made))
        if requirements:
            _uv("pip", "install", "--quiet", "--python", str(made / "bin" / "python"), *requirements)
        try:
            made.rename(home)
        except OSError:  # another run was first
            shutil.rmtree(made)
    return home / "bin" / "python"


def installed_pythons() -> list[str]:
    """Which of the Pythons that a model may bring are on this machine."""
    return [version for version in ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13") if _has(version)]


def _has(version: str) -> bool:
    return subprocess.run([uv(), "python", "find", version], capture_output=True).returncode == 0


def uv() -> str:
    found = shutil.which("uv") or shutil.which("uv", path=str(ROOT / ".tools" / "uv" / "bin"))
    if found is None:
        raise RuntimeError("uv is needed for tests in other environments: `make env` installs it")
    return found


def _uv(*arguments: str) -> None:
    done = subprocess.run([uv(), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"uv {' '.join(arguments)} failed:\n{done.stderr}")
