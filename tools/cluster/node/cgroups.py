"""The node's own control groups on the host, one in each hierarchy below whoever starts it. Of version 1 only."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
REMOVE_SECONDS = 30.0


class NoControlGroups(Exception):
    """The machine's control groups are not of a kind that the node can use."""


def hierarchies() -> dict[str, str]:
    """Folder below ROOT -> our own group in it: {"cpu": "/", "memory": "/user", "unified": "/"}."""
    if (ROOT / "cgroup.controllers").exists():
        raise NoControlGroups(
            "this machine has control groups of version 2 only, and the node is made for version 1: "
            "use a cluster of your own (kind, k3s, …), see tools/cluster/README.md"
        )
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    named = {controllers.removeprefix("name=") or "unified": group for _, controllers, group in lines}
    return {name: group for name, group in named.items() if (ROOT / name).is_dir()}


def create(name: str) -> list[Path]:
    """Makes a group of this name in every hierarchy."""
    groups = [ROOT / hierarchy / group.strip("/") / name for hierarchy, group in hierarchies().items()]
    for group in groups:
        group.mkdir(exist_ok=True)
        if (group / "cpuset.cpus").exists():  # is born empty, and nothing runs in an empty set
            for file in ("cpuset.cpus", "cpuset.mems"):
                (group / file).write_text((group.parent / file).read_text())
            (group / "cgroup.clone_children").write_text("1")
    return groups


def enter(groups: list[Path]) -> None:
    """Moves this process into the groups."""
    for group in groups:
        (group / "cgroup.procs").write_text(str(os.getpid()))


def remove(name: str) -> list[Path]:
    """Kills what runs in the groups of this name, and removes them with all below them. Returns those that stay."""
    end = time.monotonic() + REMOVE_SECONDS
    while (left := [group for group in _named(name) if not _removed(group)]) and time.monotonic() < end:
        for group in left:
            _kill(group)
        time.sleep(0.05)
    return left


def _named(name: str) -> list[Path]:
    """Those of any start: one that was broken off has told nobody where they are."""
    return [Path(folder, name) for folder, below, _ in os.walk(ROOT) if name in below]


def _kill(group: Path) -> None:
    for folder, _, _ in os.walk(group):
        with contextlib.suppress(OSError):  # both the group and the process may have gone
            for pid in map(int, Path(folder, "cgroup.procs").read_text().split()):
                os.kill(pid, signal.SIGKILL)


def _removed(group: Path) -> bool:
    for folder, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True
