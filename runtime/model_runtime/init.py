"""A small init, for a container in which this program is process 1. Standard library only: it runs before all other imports.

The kernel discards a signal to process 1 that has no handler, so SIGTERM during an import would do nothing. What loses its parent
in the container becomes a child of process 1, which must reap it. The images have an init in front, and do not need this one.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

_FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def run() -> None:
    """As process 1: forks and returns in the child. The parent forwards signals, reaps, and exits as the child does."""
    if os.getpid() != 1:
        return
    awaited = {*_FORWARDED, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)  # a signal that is blocked is kept, even for process 1
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, awaited)
        return
    _wait(child, awaited)


def _wait(child: int, awaited: Iterable[signal.Signals]) -> None:
    while True:
        number = signal.sigwait(awaited)
        if number != signal.SIGCHLD:
            os.kill(child, number)
            continue
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended
            if pid == child:
                os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
