"""Enters the node's control groups and becomes `unshare`, whose only child is the node's PID 1.

`python -m cluster.node.launch FOLDER free|tied CONTROL-GROUP…`; tied: dies with the process that started it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

from . import cgroups

_PR_SET_PDEATHSIG = 1
NAMESPACES = ("--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup")


def main() -> None:
    folder, life, *groups = sys.argv[1:]
    if life == "tied":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    cgroups.enter([Path(group) for group in groups])
    unshare = ["unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
    init = [sys.executable, "-m", "cluster.node.init", folder]
    os.execvp(unshare[0], [*unshare, *init])


if __name__ == "__main__":
    main()
