"""Installs requirements into a model directory, unless its lib.lock or a cache has the same already."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from ..errors import RequirementsFailed
from ..masking import masked
from . import fingerprint, installer, listing, settings
from .cache import Cache
from .fingerprint import Python
from .listing import Listing, Wanted
from .workspace import Workspace

log = logging.getLogger(__name__)

LIBRARY = "lib"
LOCK = "lib.lock"
_LINES = ".requirements.txt"  # where a list of requirements stands, among the files


def install(
    wanted: Wanted, model_dir: Path, *, base: Path, python: str, wheels: Path | None = None, cache: Cache | None = None
) -> dict[str, str]:
    """Name to version of what `wanted` put into `model_dir`/lib. Raises RequirementsFailed with the installer's own words.

    `base` is the working directory, for paths that the requirements name. `wheels` is a folder of wheels to install from instead
    of the package index. With a `cache`, lib is a link into it.
    """
    try:
        return _install(_Job(wanted, base, Python.ask(python), wheels), model_dir, cache)
    except OSError as error:
        raise RequirementsFailed(f"{error.filename or model_dir}: {error.strerror or type(error).__name__}") from None


def _install(job: _Job, model_dir: Path, cache: Cache | None) -> dict[str, str]:
    known = _known(model_dir / LOCK, job.key)
    if known is not None and (model_dir / LIBRARY).is_dir():
        log.info("requirements are installed already", extra={"packages": len(known)})
        return known
    if cache is None:
        installed = _into(model_dir, job)
    else:
        lib = cache.provide(job.key, lambda folder: job.install(folder, folder / LIBRARY)) / LIBRARY
        _remove(model_dir / LIBRARY)
        (model_dir / LIBRARY).symlink_to(lib)
        installed = _installed(lib)
    lock = json.dumps({"wanted": job.key, "installed": installed}, indent=1, sort_keys=True)
    (model_dir / LOCK).write_text(f"{lock}\n", "utf-8")
    packages = " ".join(f"{name}=={version}" for name, version in installed.items())
    log.info("requirements installed", extra={"packages": packages})
    return installed


def _into(model_dir: Path, job: _Job) -> dict[str, str]:
    with tempfile.TemporaryDirectory(dir=model_dir, prefix=".lib-", ignore_cleanup_errors=True) as folder:
        target = Path(folder) / LIBRARY
        job.install(Path(folder), target)
        _remove(model_dir / LIBRARY)
        target.rename(model_dir / LIBRARY)
    return _installed(model_dir / LIBRARY)


def _known(lock: Path, key: str) -> dict[str, str] | None:
    """What a lock of this key says is installed. A lock that cannot be read is none."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        content = json.loads(lock.read_text("utf-8"))
        return dict(content["installed"]) if content["wanted"] == key else None
    return None


class _Job:
    """Requirements with all that decides what they install."""

    def __init__(self, wanted: Wanted, base: Path, python: Python, wheels: Path | None) -> None:
        if wanted.file:
            wanted = replace(wanted, file=Path(os.path.abspath(wanted.file)))
        self._wanted, self._base, self._python = wanted, Path(os.path.abspath(base)), python
        self._wheels = Path(os.path.abspath(wheels)) if wheels else None
        self._top = wanted.file or self._base / _LINES
        self._listing: Listing = listing.listed(wanted, self._top, self._base)
        self.key = fingerprint.fingerprint(self._listing, python, self._wheels)

    def install(self, room: Path, target: Path) -> None:
        """Installs into `target`, a new folder. `room` is for what is needed meanwhile."""
        secrets = settings.secrets({str(file): text for file, text in self._listing.texts.items()})
        name = masked(str(self._wanted)[:500], secrets)
        log.info("installing requirements", extra={"requirements": name, "python": self._python.path})
        workspace = Workspace(room / installer.SOURCES)
        folder = workspace.prepare(self._listing, self._base)
        target.mkdir()
        words = installer.command(
            workspace.at(self._top), target, self._python, wheels=self._wheels, suits_uv=self._listing.suits_uv
        )
        installer.run(words, folder=folder, room=room, limits=settings.limits(), secrets=secrets, name=name)
        if not target.is_dir():
            raise RequirementsFailed(f"requirements {name}: the installer ended well and left no {target.name}")


def _installed(target: Path) -> dict[str, str]:
    found = {distribution.name: distribution.version for distribution in metadata.distributions(path=[str(target)])}
    return dict(sorted(found.items()))


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)
