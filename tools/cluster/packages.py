"""The Debian packages that the node and the image builder need: installed by name, or a failure that names the command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

# A program or folder whose presence tells that the package is there.
NODE = {
    "runc": "runc",
    "containernetworking-plugins": "",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "iproute2": "ip",
    "util-linux": "unshare",
    "mount": "mount",
}
BUILDER = {"buildah": "buildah"}
BASE = {"debootstrap": "debootstrap"}
_NETWORK_PLUGINS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
LOCK_SECONDS = 300  # for another apt-get to end
# A user's PATH may leave these out.
_SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin"


class PackageMissing(Exception):
    """A package is not here and cannot be installed; the text says what to do."""


def present(wanted: dict[str, str]) -> None:
    """Returns when every package is there; as root it installs those that are not."""
    os.environ["PATH"] = os.pathsep.join(dict.fromkeys(f"{os.environ.get('PATH', '')}:{_SYSTEM}".split(os.pathsep)))
    missing = _missing(wanted)
    if not missing:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    by_hand = f"install them with: sudo apt-get update && sudo {' '.join(command)}"
    if os.geteuid() or not shutil.which("apt-get"):
        raise PackageMissing(f"missing: {', '.join(missing)}; {by_hand}")
    print(f"installing {', '.join(missing)}", file=sys.stderr, flush=True)
    _run(["apt-get", "update"])  # a source of the developer's own may be out of order: what counts is the next step
    done = _run(command)
    if done.returncode:
        raise PackageMissing(f"{' '.join(command)} failed; {by_hand}\n{done.stderr[-1500:]}")
    if left := _missing(wanted):
        raise PackageMissing(f"installed, but still not found: {', '.join(left)}; {by_hand}")


def network_plugins() -> Path | None:
    """The folder of the container network plugins."""
    return next((folder for folder in _NETWORK_PLUGINS if (folder / "bridge").exists()), None)


def _missing(wanted: dict[str, str]) -> list[str]:
    return [name for name, program in wanted.items() if not (shutil.which(program) if program else network_plugins())]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    patient = [command[0], f"-oDPkg::Lock::Timeout={LOCK_SECONDS}", "-oAcquire::Retries=3", *command[1:]]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(patient, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
