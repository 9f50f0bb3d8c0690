"""The connections of a port, as the kernel knows them: grpcio neither counts them nor lets go of them one by one."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Collection, Iterator
from pathlib import Path

_TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))  # of this network namespace; see proc(5)
_ESTABLISHED = "01"


def count(port: int) -> int:
    """Connections that clients hold to `port`. 0 where the kernel shows no table."""
    return sum(_count(table, f":{port:04X}") for table in _TABLES)


def _count(table: Path, ending: str) -> int:
    try:
        rows = table.read_text().splitlines()[1:]
    except OSError:
        return 0
    fields = (row.split(maxsplit=4) for row in rows)
    return sum(1 for _, local, _, state, _ in fields if state == _ESTABLISHED and local.endswith(ending))


def stop_listening(port: int) -> None:
    """Nobody can connect to our `port` any more: clients are refused at once, and try elsewhere."""
    for each in _own(port):
        if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def close(port: int, keep: Collection[int] = ()) -> None:
    """Says goodbye to the clients of our `port`, those at the ports in `keep` excepted.

    What has been sent still arrives. Calls that cross it on their way end UNAVAILABLE, as on any lost connection, where
    grpcio's own stop would end them CANCELLED.
    """
    for each in _own(port):
        with contextlib.suppress(OSError):  # it has just gone by itself
            if each.getpeername()[1] not in keep:
                each.shutdown(socket.SHUT_WR)


def _own(port: int) -> Iterator[socket.socket]:
    """Each socket of this process that is bound to `port`, through a descriptor that lives as long as the turn."""
    for name in os.listdir("/dev/fd"):
        try:
            descriptor = os.dup(int(name))
        except OSError:  # just closed
            continue
        try:
            found = socket.socket(fileno=descriptor)
        except OSError:  # not a socket
            os.close(descriptor)
            continue
        with found:
            if found.family in (socket.AF_INET, socket.AF_INET6) and _port(found) == port:
                yield found


def _port(of: socket.socket) -> int:
    try:
        return int(of.getsockname()[1])
    except OSError:
        return 0
