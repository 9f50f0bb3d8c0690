"""A server on a core of its own: started, read from /proc with all its children (CPU, resident memory), and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

TICKS = os.sysconf("SC_CLK_TCK")
SERVER_CORE, LOAD_CORE = 0, 1


class Failed(Exception):
    """A server that did not answer; the text has its last lines."""


class Server:
    """`with Server(…) as server:` runs until the end of the block. All of it is in one session, which is killed at the end."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self._log = folder / "server.log"
        self.first_answer = 0.0  # seconds from the start
        pinned = [*_in_one_group(), "taskset", "-c", str(SERVER_CORE), *command]
        self.started = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                pinned, env={**os.environ, **environment}, cwd=folder, stdout=log, stderr=log, start_new_session=True
            )

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        family = self._family()
        for number, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
            family = [pid for pid in family if Path(f"/proc/{pid}").exists()]

    def wait(self, is_right: Callable[[], bool], seconds: float = 120.0) -> float:
        """Seconds from the start to the first right answer."""
        end = time.perf_counter() + seconds
        while not is_right():
            if self._process.poll() is not None or time.perf_counter() > end:
                raise Failed(f"no right answer: {self.last_words()}")
            time.sleep(0.005)
        return time.perf_counter() - self.started

    def last_words(self) -> str:
        return " | ".join(self._log.read_text(errors="replace").strip().splitlines()[-25:])[-2500:]

    def cpu(self) -> float:
        """Seconds of CPU that all its processes have used."""
        return sum(_cpu(pid) for pid in self._family())

    def memory(self) -> float:
        """MiB that all its processes keep resident, shared pages shared out among them (PSS)."""
        return sum(_pss(pid) for pid in self._family()) / 1024

    def peak(self) -> float:
        """The sum of each process's own highest resident size, MiB."""
        return sum(_field(f"/proc/{pid}/status", "VmHWM:") for pid in self._family()) / 1024

    def _family(self) -> list[int]:
        """Everything that began in its session, and their descendants."""
        parents = dict(_parents())
        mine = {self._process.pid}
        while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
            mine |= more
        return sorted(mine & parents.keys())


def _in_one_group() -> list[str]:
    """Puts a server's processes into one scheduling group, as a container's are.

    Else Linux makes a group of each session (autogroup), and gives a model process as much of the core as its server.
    """
    group = Path("/sys/fs/cgroup/cpu/model-runtime-bench")
    with contextlib.suppress(OSError):
        group.mkdir(exist_ok=True)
        return ["/bin/sh", "-c", f'echo $$ > {group}/tasks && exec "$@"', "sh"]
    return []


def _parents() -> list[tuple[int, int]]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                found.append((int(folder.name), int(_stat(folder.name)[1])))
    return found


def _stat(pid: int | str) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _cpu(pid: int) -> float:
    with contextlib.suppress(OSError):
        return sum(map(int, _stat(pid)[11:15])) / TICKS
    return 0.0


def _pss(pid: int) -> float:
    with contextlib.suppress(OSError):
        return _field(f"/proc/{pid}/smaps_rollup", "Pss:")
    return 0.0


def _field(file: str, name: str) -> float:
    with contextlib.suppress(OSError):
        for line in Path(file).read_text().splitlines():
            if line.startswith(name):
                return float(line.split()[1])
    return 0.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
