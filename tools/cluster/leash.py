"""What a process starts and writes, tied to its life: whatever ends it, kill -9 included, its programs end and its files go.

A program asks the kernel to be killed with its parent (`tied`). Files cannot ask: a small watcher, which outlives the owner by
a moment, reads a pipe that the owner alone holds; when that ends, it removes them (`Leavings`). Both are this file, run by path.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

REMOVE_SECONDS = 10.0  # what the kernel is just killing may still write
_PR_SET_PDEATHSIG = 1
_OURSELVES = [sys.executable, "-I", "-S", __file__]


def tied(command: list[str]) -> list[str]:
    """The command line of a program that dies with this process (to be exact, with the calling thread: that is what counts)."""
    return [*_OURSELVES, "run", str(os.getpid()), *command]


class Leavings:
    """Files and folders that are removed when this process ends, or on `remove`."""

    def __init__(self) -> None:
        # A session of its own: Ctrl-C is for the owner.
        self._watcher = subprocess.Popen([*_OURSELVES, "watch"], stdin=subprocess.PIPE, start_new_session=True)

    def add(self, path: Path) -> None:
        assert self._watcher.stdin is not None
        self._watcher.stdin.write(os.fsencode(path.absolute()) + b"\n")
        self._watcher.stdin.flush()

    def remove(self) -> None:
        """Removes all of them now; the programs that write there have been ended before."""
        self._watcher.communicate()


def _run(parent: int, command: list[str]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == parent:  # else it died before we asked
        os.execv(command[0], command)


def _watch() -> None:
    for path in [Path(os.fsdecode(line)) for line in sys.stdin.buffer.read().splitlines()]:
        end = time.monotonic() + REMOVE_SECONDS
        while path.exists() and time.monotonic() < end:
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                path.unlink()


if __name__ == "__main__":
    if sys.argv[1] == "run":
        _run(int(sys.argv[2]), sys.argv[3:])
    else:
        _watch()
