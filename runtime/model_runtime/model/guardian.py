"""The guardian of a model process: its parent, which ends everything that the model started.

The program that the server starts forks before it imports numpy or the model: the child becomes the model, in a session of its
own, and the parent the guardian. Where the system has subreapers (Linux), what the model starts stays below the guardian even in
sessions of its own; elsewhere the model's process group is ended. The guardian ends when the model has, with its exit status, or
when the server, however it ended, no longer holds the pipe that is its standard input. Standard library only, Python 3.8.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import sys
import time
from typing import Any, Iterable, Iterator, List, Mapping, Optional

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_ORDERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # to end, as the server's order is
_KILL_SECONDS = 5.0  # for processes to end that were killed: one in the kernel's hands cannot
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.05
_BUFFER_BYTES = 1 << 16


def read_config() -> bytes:
    """The first line of standard input. What follows is never read: the pipe's end is the order to end."""
    line = b""
    while not line.endswith(b"\n"):
        data = os.read(0, _BUFFER_BYTES)
        if not data:
            sys.exit("expected to be started by the model runtime's supervisor")
        line += data
    return line


def tell(descriptor: int, **state: Any) -> None:
    """Writes one status line to the supervisor."""
    data = json.dumps(state).encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]


def become_child(config: Mapping[str, Any]) -> None:
    """Forks. Returns in the child, which becomes the model; the parent is the guardian and never returns.

    The guardian alone holds the descriptor `lease`: its closing is how the supervisor notices the end.
    """
    status = config["status"]
    problem = _adopt_orphans()
    guardian = os.getpid()
    try:
        model = os.fork()
    except OSError as error:
        tell(status, phase="unstarted", problem=error.strerror or str(error))
        os._exit(1)
    if model:
        _watch(model, [config["channel"], status, config["shared"]])
    os.close(config["lease"])
    os.setsid()
    _end_with(guardian)
    _replace(0, os.O_RDONLY)
    tell(status, phase="started", pid=os.getpid(), problem=problem)


def _prctl(option: int, value: int) -> bool:
    try:
        import ctypes

        return ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0  # type: ignore[no-any-return]
    except (ImportError, OSError, AttributeError):  # no ctypes in this Python, or not Linux
        return False


def _adopt_orphans() -> str:
    """Makes this process the parent of what its descendants leave behind. Returns what is missing for that, or nothing."""
    if not _prctl(_SET_CHILD_SUBREAPER, 1):
        return "no PR_SET_CHILD_SUBREAPER"
    return "" if os.path.isdir("/proc/self") else "no /proc"


def _end_with(guardian: int) -> None:
    """The kernel kills this process when the guardian ends, where it can."""
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guardian:
        os._exit(1)


def _replace(descriptor: int, flags: int) -> None:
    nothing = os.open(os.devnull, flags)
    os.dup2(nothing, descriptor)
    os.close(nothing)


# The parent ---------------------------------------------------------------------------------------------------------


def _watch(model: int, others: Iterable[int]) -> None:
    """Waits for the model's end or for an order, ends what is left, and exits as the model did."""
    status: Optional[int] = None
    try:
        _let_go(others)
        woken = _wake_on_signals()
        while True:
            status = _reap(model)
            if status is not None or _is_ordered(woken):
                break
    finally:
        ended = _kill_all(model)
        _exit_as(status if status is not None else ended)


def _let_go(others: Iterable[int]) -> None:
    """Closes what belongs to the model. Standard error stays, for a guardian that fails."""
    for descriptor in others:
        os.close(descriptor)
    _replace(1, os.O_WRONLY)


def _wake_on_signals() -> int:
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *_ORDERS):
        signal.signal(number, lambda *_: None)
    return woken


def _is_ordered(woken: int) -> bool:
    """Waits for a signal or for the end of the server's pipe. Returns whether it is an order to end."""
    ready, _, _ = select.select([0, woken], [], [])
    if 0 in ready and not os.read(0, _BUFFER_BYTES):
        return True
    numbers = os.read(woken, _BUFFER_BYTES) if woken in ready else b""
    return any(number in _ORDERS for number in numbers)


def _reap(model: int) -> Optional[int]:
    """Takes what has ended off the system's list. Returns the model's status where it is among them."""
    status: Optional[int] = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, ended = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == model:
                status = ended
    return status


def _kill_all(model: int) -> Optional[int]:
    """Kills until there is nothing left: what a killed process leaves behind becomes a child of this one."""
    status: Optional[int] = None
    end, pause = time.monotonic() + _KILL_SECONDS, _FIRST_PAUSE
    _kill(-model)
    while time.monotonic() < end:
        for child in _children():
            _kill(child)
        ended = _reap(model)
        status = status if ended is None else ended
        if not _has_children():
            break
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    return status


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if pid < 0:
            os.killpg(-pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _children() -> List[int]:
    """This process's own children; none where the system does not list them."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN, or no /proc
        return [pid for pid in _processes() if _parent(pid) == os.getpid()]


def _processes() -> Iterator[int]:
    try:
        names = os.listdir("/proc")
    except OSError:
        return
    yield from (int(name) for name in names if name.isdigit())


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _exit_as(status: Optional[int]) -> None:
    """Ends this process as the model ended, so that the supervisor sees its exit status or signal."""
    if status is None:
        os._exit(1)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.signal(number, signal.SIG_DFL)
        with contextlib.suppress(OSError):
            os.kill(os.getpid(), number)
        os._exit(128 + number)
    os._exit(os.WEXITSTATUS(status))
