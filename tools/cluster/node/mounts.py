"""The node's private mounts, made by its PID 1 inside its own mount namespace; the kernel removes them with it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from . import cgroups
from .layout import RUN, VOLUMES, Layout

# kubelet and kube-proxy set these for the whole kernel: they are given files of their own to write to.
_SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


def prepare(layout: Layout) -> None:
    """Everything that the components write outside the node's folder lands in a private place."""
    _control_groups()
    _tmpfs(RUN)
    own = RUN / "node"
    _bind(layout.folder, own)
    for shared in (Path("/var/lib"), Path("/tmp")):
        _private_copy(shared)
    if Path("/tmp") in layout.folder.parents or Path("/var/lib") in layout.folder.parents:
        _bind(own, layout.folder)  # the copy hides it
    _bind(layout.log, Path("/var/log"))
    _bind(layout.state / "volumes", VOLUMES)
    for name, value in _SYSCTLS.items():
        _sysctl(name, value)
    _mount("--make-rshared", "/")


def _control_groups() -> None:
    """A view of the control groups that begins at our own."""
    names = list(cgroups.hierarchies())  # before the host's are out of sight
    _mount("-t", "sysfs", "sysfs", "/sys")
    _tmpfs(cgroups.ROOT)
    for name in names:
        folder = cgroups.ROOT / name
        folder.mkdir()
        if name == "unified":
            _mount("-t", "cgroup2", "cgroup2", str(folder))
        else:
            _mount("-t", "cgroup", "-o", "none,name=systemd" if name == "systemd" else name, "cgroup", str(folder))


def _private_copy(folder: Path) -> None:
    """What is written to the folder stays in memory, here; what is in it can be read."""
    room = RUN / "copies" / folder.name
    upper, work = room / "upper", room / "work"
    upper.mkdir(parents=True, mode=folder.stat().st_mode & 0o7777)
    upper.chmod(folder.stat().st_mode & 0o7777)
    work.mkdir()
    _mount("-t", "overlay", "-o", f"lowerdir={folder},upperdir={upper},workdir={work}", "overlay", str(folder))


def _sysctl(name: str, value: str) -> None:
    here = Path("/proc/sys") / name
    if here.exists():
        copy = RUN / "sysctl" / name.replace("/", "-")
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(value + "\n")
        _mount("--bind", str(copy), str(here))


def _tmpfs(folder: Path) -> None:
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(folder))


def _bind(source: Path, target: Path) -> None:
    source.mkdir(parents=True, exist_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    _mount("--bind", str(source), str(target))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)
