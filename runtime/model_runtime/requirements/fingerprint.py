"""A digest of everything that decides what an installation holds."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import RequirementsFailed
from . import settings
from .listing import Listing

_CHUNK = 1 << 20
_SKIPPED = {"__pycache__", ".git"}
_ASK_SECONDS = 60
_ASK = """
import glob, importlib.util, json, os, platform, sys, sysconfig
def pip():
    if importlib.util.find_spec("pip"):
        return ["-m", "pip"]
    spec = importlib.util.find_spec("ensurepip")  # its wheel can be run as it is
    wheels = glob.glob(os.path.join(os.path.dirname(spec.origin), "_bundled", "pip-*.whl")) if spec else []
    return [os.path.join(wheels[0], "pip")] if wheels else []
print(json.dumps([sys.version, sys.implementation.cache_tag, sysconfig.get_platform(), platform.libc_ver(), pip()]))
"""


@dataclass(frozen=True)
class Python:
    """An interpreter, and what of it a package may depend on."""

    path: str
    identity: str
    pip: tuple[str, ...]  # the arguments that run its own pip; none where it has none

    @classmethod
    def ask(cls, path: str) -> Python:
        """Raises RequirementsFailed where `path` is no Python that runs."""
        problem = f"{path}: expected a Python to install for"
        try:
            done = subprocess.run(
                [path, "-I", "-c", _ASK],
                check=False,
                capture_output=True,
                text=True,
                timeout=_ASK_SECONDS,
                stdin=subprocess.DEVNULL,
            )
            version, tag, system, libc, pip = json.loads(done.stdout)
        except OSError as error:
            raise RequirementsFailed(f"{problem}: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise RequirementsFailed(f"{problem}: it does not answer within {_ASK_SECONDS} s") from None
        except (ValueError, TypeError):
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
            raise RequirementsFailed(f"{problem}: {last[0][:500]}") from None
        return cls(path, json.dumps([version, tag, system, libc]), tuple(pip))


def fingerprint(listing: Listing, python: Python, wheels: Path | None) -> str:
    """Changes with the requirements, with any local file that they name, with the Python and with the installers' variables.

    Paths count relative to each other only: the same model in another folder has the same fingerprint.
    """
    digest = hashlib.sha256()

    def add(*parts: str) -> None:
        digest.update(json.dumps(parts).encode())

    add("python", python.identity)
    for name, text in {**settings.installer_variables(), **listing.variables}.items():
        add("variable", name, text)
    for text in listing.texts.values():
        add("text", text)
    for content in sorted(_content(path) for path in [*listing.local, *([wheels] if wheels else [])]):
        add("local", content)
    return digest.hexdigest()


def _content(path: Path) -> str:
    """The digest of a file's name and bytes, or of all that is in a folder."""
    digest = hashlib.sha256(path.name.encode())
    for name, file in _files(path):
        digest.update(f"\0{name}\0".encode("utf-8", "surrogateescape"))
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield "", path
        return
    for folder, names, files in os.walk(path):
        names[:] = sorted(name for name in names if name not in _SKIPPED)
        for name in sorted(files):
            file = Path(folder, name)
            if file.is_file():
                yield file.relative_to(path).as_posix(), file
