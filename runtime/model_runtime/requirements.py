"""A model's requirements, installed into its own directory (`lib/`) and never into the runtime's environment.

uv does it where it is on the PATH, else pip. What was installed is recorded in `lib.lock`, by which a second call knows that
nothing is left to do. The installation is put together aside and moved into place whole: a broken one leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from .errors import RequirementsFailed

log = logging.getLogger(__name__)

LIBRARY = "lib"
LOCK = "lib.lock"


def install(
    requirements: Sequence[str], model_dir: Path, *, python: str = sys.executable, wheels: Path | None = None
) -> dict[str, str]:
    """Name to version of what `requirements` (lines of a requirements.txt, hashes allowed) put into `model_dir`/lib.

    `wheels` is a folder of wheels to install from instead of the package index. Raises RequirementsFailed with the installer's
    own words.
    """
    lock = model_dir / LOCK
    wanted = _fingerprint(requirements, python)
    if (
        lock.is_file()
        and (known := json.loads(lock.read_text())).get("wanted") == wanted
        and (model_dir / LIBRARY).is_dir()
    ):
        log.info("requirements are installed already", extra={"packages": len(known["installed"])})
        return dict(known["installed"])
    log.info(
        "installing requirements", extra={"requirements": " ".join(requirements), "into": str(model_dir / LIBRARY)}
    )
    with tempfile.TemporaryDirectory(dir=model_dir, prefix=".lib-") as folder:
        target = Path(folder) / LIBRARY
        _run(_command(requirements, Path(folder), target, python, wheels), requirements)
        installed = _installed(target)
        shutil.rmtree(model_dir / LIBRARY, ignore_errors=True)
        target.rename(model_dir / LIBRARY)
    lock.write_text(json.dumps({"wanted": wanted, "installed": installed}, indent=1, sort_keys=True) + "\n")
    log.info(
        "requirements installed",
        extra={"packages": " ".join(f"{name}=={version}" for name, version in installed.items())},
    )
    return installed


def read(file: Path) -> list[str]:
    """The lines of a requirements.txt that say something. Raises RequirementsFailed where it cannot be read."""
    try:
        return lines(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RequirementsFailed(f"{file}: expected a file of requirements: {error}") from None


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def _fingerprint(requirements: Sequence[str], python: str) -> str:
    return hashlib.sha256("\n".join([python, *requirements]).encode()).hexdigest()


def _command(requirements: Sequence[str], folder: Path, target: Path, python: str, wheels: Path | None) -> list[str]:
    listed = folder / "requirements.txt"
    listed.write_text("\n".join(requirements) + "\n")
    target.mkdir()
    uv = shutil.which("uv")
    base = (
        [uv, "pip", "install", "--python", python]
        if uv
        else [sys.executable, "-m", "pip", "--python", python, "install"]
    )
    quiet = [] if uv else ["--disable-pip-version-check", "--no-warn-script-location", "--no-cache-dir"]
    offline = ["--no-index", "--find-links", str(wheels)] if wheels else []
    return [*base, *quiet, *offline, "--target", str(target), "-r", str(listed)]


def _run(command: list[str], requirements: Sequence[str]) -> None:
    """Runs the installer; its lines are logged as they come, the last of them explain a failure."""
    last: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout or ():
            if line.strip():
                log.info(line.strip(), extra={"from": Path(command[0]).name})
                last = [*last[-19:], line.strip()]
    if process.returncode:
        words = " ".join(last)
        raise RequirementsFailed(f"requirements {', '.join(requirements)} cannot be installed: {words[-1500:]}")


def _installed(target: Path) -> dict[str, str]:
    found = {distribution.name: distribution.version for distribution in metadata.distributions(path=[str(target)])}
    return dict(sorted(found.items()))
