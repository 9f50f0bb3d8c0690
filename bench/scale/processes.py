"""What processes cost, read from /proc: CPU seconds and resident memory. Works for any process of ours."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of the process, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_mib(pid: int) -> float:
    return _status_mib(pid, "VmRSS")


def peak_mib(pid: int) -> float:
    return _status_mib(pid, "VmHWM")


def cpu_of_children() -> dict[str, float]:
    """CPU seconds of each child of this process, by its program's name, and of this process as "driver"."""
    seconds = {"driver": cpu_seconds(os.getpid())}
    for task in Path("/proc/self/task").iterdir():
        for pid in map(int, (task / "children").read_text().split()):
            name = _program(pid)
            seconds[name] = seconds.get(name, 0.0) + cpu_seconds(pid)
    return seconds


def _program(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return "operator" if b"model_runtime_operator" in words else os.path.basename(words[0]).decode()


def _status_mib(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(f"/proc/{pid}/status has no {name}")
