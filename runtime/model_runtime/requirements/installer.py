"""Runs pip or uv: what they print is logged as it comes, without credentials; their time and their bytes are bounded."""

from __future__ import annotations

import logging
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import RequirementsFailed
from ..masking import masked
from . import settings
from .fingerprint import Python
from .settings import Limits

log = logging.getLogger(__name__)

SOURCES, TEMPORARY = "sources", "tmp"
_LONGEST_LINE = 2000
_LAST_LINES = 20
_SILENCE_SECONDS = 5.0
_MEASURE_SECONDS = 5.0


def command(file: Path, target: Path, python: Python, *, wheels: Path | None, suits_uv: bool) -> list[str]:
    """The command that installs what `file` asks for into `target`."""
    offline = ["--no-index", "--find-links", str(wheels)] if wheels else []
    uv = shutil.which("uv", path=settings.search_path())
    if uv and suits_uv and not settings.configures_pip():
        return [uv, "pip", "install", "--python", python.path, *offline, "--target", str(target), "-r", str(file)]
    # -I: the working directory is the model's, and a random.py in it is not for pip
    own = [python.path, "-I", *python.pip]
    pip = own if python.pip else [sys.executable, "-I", "-m", "pip", "--python", python.path]
    quiet = ["--no-warn-script-location", "--no-cache-dir", "--progress-bar", "off"]
    return [*pip, "install", *quiet, *offline, "--target", str(target), "-r", str(file)]


def run(words: list[str], *, folder: Path, room: Path, limits: Limits, secrets: Iterable[str], name: str) -> None:
    """Runs the command in `folder`. All that it downloads and builds is below `room`. Raises RequirementsFailed."""
    temporary = room / TEMPORARY
    temporary.mkdir()
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=settings.child(temporary),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # a group of its own: compilers and build backends end with it
    )
    watch = _Watch(process, Path(words[0]).name, room, limits, tuple(secrets), name)
    try:
        watch.follow()
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()
    if process.returncode:
        raise RequirementsFailed(f"requirements {name} cannot be installed: {watch.last_words(1500)}")


class _Watch:
    """One running installer."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        tool: str,
        room: Path,
        limits: Limits,
        secrets: tuple[str, ...],
        name: str,
    ) -> None:
        self._process, self._tool, self._room, self._limits = process, tool, room, limits
        self._secrets, self._name = secrets, name
        self._mirror = str(room / SOURCES)  # a person knows the files by their own paths
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._began = self._heard = self._measured = time.monotonic()

    def last_words(self, limit: int) -> str:
        """The end of what was printed, from the beginning of a word."""
        text = " ".join(self._last)
        return text if len(text) <= limit else text[-limit:].partition(" ")[2] or text[-limit:]

    def follow(self) -> None:
        for line in self._lines():
            text = masked(line.strip()[:_LONGEST_LINE].replace(self._mirror, ""), self._secrets)
            if text:
                self._heard = time.monotonic()
                self._last.append(text)
                log.info(text, extra={"from": self._tool})
        self._process.wait()

    def _lines(self) -> Iterator[str]:
        """What is printed, line by line. A line without an end is cut, so that it needs no memory."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while True:
                self._check()
                if not selector.select(1.0):
                    if self._process.poll() is not None:  # what it left behind may hold the pipe open
                        break
                    continue
                if not (chunk := os.read(descriptor, 65536)):
                    break
                *lines, rest = re.split(rb"[\r\n]+", rest + chunk)
                yield from (line.decode("utf-8", "replace") for line in lines)
                rest = rest[-_LONGEST_LINE:]
        yield rest.decode("utf-8", "replace")

    def _check(self) -> None:
        now = time.monotonic()
        if now - self._began > self._limits.timeout_seconds:
            raise RequirementsFailed(
                f"requirements {self._name} are not installed after {self._limits.timeout_seconds} s"
                f" (INSTALL_TIMEOUT_SECONDS): {self.last_words(1000)}"
            )
        if now - self._measured > _MEASURE_SECONDS:
            self._measured = now
            size = measured(self._room)
            if size > self._limits.max_bytes:
                raise RequirementsFailed(
                    f"requirements {self._name} take {size} bytes and more, at most"
                    f" {self._limits.max_bytes} are allowed (INSTALL_MAX_BYTES)"
                )
            if now - self._heard > _SILENCE_SECONDS:
                details = {"seconds": round(now - self._began), "mib": size >> 20, "from": self._tool}
                log.info("installing", extra=details)


def measured(folder: Path) -> int:
    """The bytes of all files below `folder`; links count nothing."""
    size = 0
    for below, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                size += os.lstat(os.path.join(below, name)).st_size
    return size
