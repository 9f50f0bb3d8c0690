"""The ways into the node: listens on the host's loopback, connects inside the node's network namespace, ends with the node.

`python -m cluster.node.gate PID PORT…` prints the host's port for each of the node's. A socket belongs to the namespace it was
made in: the listening ones are made before the change into the node's, those towards the node after it.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import os
import socket
import sys

_CLONE_NEWNET = 0x40000000
CHUNK = 1 << 18


def main() -> None:
    pid, *ports = map(int, sys.argv[1:])
    node = os.pidfd_open(pid)
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in ports]
    print(*(listener.getsockname()[1] for listener in listeners), flush=True)
    _enter_network(pid)
    asyncio.run(_forward(node, dict(zip(listeners, ports, strict=True))))


def _enter_network(pid: int) -> None:
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot enter the node's network")
    os.close(namespace)


async def _forward(node: int, ports: dict[socket.socket, int]) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(node, ended.set)  # a pidfd is readable once its process has ended
    for listener, port in ports.items():
        await asyncio.start_server(functools.partial(_serve, port), sock=listener)
    await ended.wait()
    os._exit(0)  # what is open leads nowhere now


async def _serve(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port, limit=CHUNK)
    except OSError:
        writer.close()
        return
    await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
    for end in (writer, inner_writer):
        end.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Copies until the source has no more, then says so to the target: the other direction may go on."""
    try:
        while data := await source.read(CHUNK):
            target.write(data)
            await target.drain()
        target.write_eof()
    except OSError:
        target.transport.abort()


if __name__ == "__main__":
    main()
