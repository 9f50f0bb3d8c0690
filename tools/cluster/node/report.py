"""How the node is: what runs in it and how much memory it takes, read from /proc of the host."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .layout import REGISTRY
from .life import Node, Record

_PAGE = os.sysconf("SC_PAGESIZE")


def text(node: Node) -> str:
    """Some lines for a person."""
    record = node.running
    if record is None:
        begun = "is coming up, or its start was broken off" if node.record and node.record.alive else "is down"
        left = f" ({node.layout.folder} is there: `make cluster-down` clears it)" if node.layout.folder.exists() else ""
        return f"the node {begun}{left}"
    memory = resident_mib(record)
    lines = [
        f"the node is up, PID 1 is {record.pid}; API server 127.0.0.1:{record.api_port}",
        f"  export KUBECONFIG={node.layout.kubeconfig}",
        f"  push images to 127.0.0.1:{record.registry_port}/NAME, name them {REGISTRY}/NAME in pods",
        f"  logs: {node.layout.log}",
        "  reached after: " + ", ".join(f"{what} {seconds} s" for what, seconds in record.seconds.items()),
        f"  memory: {sum(memory.values())} MiB: " + ", ".join(f"{name} {mib}" for name, mib in memory.most_common()),
    ]
    return "\n".join(lines)


def resident_mib(record: Record) -> Counter[str]:
    """The resident memory of the node's processes, by program."""
    memory: Counter[str] = Counter()
    for pid in (*_below(record.pid), record.gate):
        try:
            name = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode().rpartition("/")[2]
            memory[name] += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE >> 20
        except (OSError, IndexError):
            continue  # it has ended
    return memory


def _below(pid: int) -> Iterator[int]:
    """The process and all its descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from _below(int(child))
