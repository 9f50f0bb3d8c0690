"""The node itself: it comes and goes without a trace, whatever ends it. Each test has a node of its own, beside any other."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from environments import ROOT
from operating import eventually

from cluster.node import report
from cluster.node.life import Node, NodeFailed

SYSCTLS = ("net/ipv4/ip_forward", "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")
PLACES = (
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/tmp/hostpath_pv",
    "/var/log/pods",
    "/var/log/containers",
    "/run/containerd",
)
pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]  # a busy machine takes its time


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "node", tied=True, say=lambda _: None)
    yield node
    node.down()


def test_it_comes_and_goes_without_a_trace(own: Node) -> None:
    before = _host()
    record = own.up()
    memory = report.resident_mib(record)
    print(f"\n{record.seconds}; {sum(memory.values())} MiB: {dict(memory.most_common())}")
    ports = (record.api_port, record.registry_port)
    assert "etcd" in memory
    assert _processes(own) != []
    assert all(map(_listens, ports))
    own.down()

    assert _left(own) == []
    assert not _runs(record.gate)
    assert not any(map(_listens, ports))
    assert _host() == before


def test_up_twice_is_up_once_and_down_twice_is_down(own: Node) -> None:
    first = own.up()
    second = own.up()
    own.down()
    own.down()

    assert first.pid == second.pid
    assert own.running is None


def test_what_a_killed_node_leaves_is_cleared_by_the_next_start(own: Node) -> None:
    killed = own.up()
    os.kill(killed.pid, signal.SIGKILL)
    _until_gone([killed.pid, killed.gate])
    assert own.running is None
    record = own.up()

    assert record.pid != killed.pid
    assert own.kubectl("get", "--raw", "/readyz") == "ok"


@pytest.mark.parametrize("moment", ["certificates and images written", "API server ready"])
def test_a_start_whose_starter_is_killed_is_taken_down_as_well(own: Node, moment: str) -> None:
    before = _host()
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'tools')!r})\n"
        "from pathlib import Path; from cluster.node.life import Node\n"
        f"Node(Path({str(own.layout.folder)!r}), say=lambda text: print(text, flush=True)).up()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        while moment not in starter.stdout.readline():
            assert starter.poll() is None
        eventually(lambda: _processes(own), 60)
        starter.kill()
    assert own.running is None
    own.down()
    own.down()

    eventually(lambda: _left(own) == [], 60, lambda: _left(own))  # kubectl of the starter is not ours to wait for
    assert _host() == before


def test_a_start_that_fails_says_why_and_leaves_nothing(
    own: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _host()
    broken = tmp_path / "assets" / "etcd"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho the disk is made of cheese\nexit 7\n")
    broken.chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(broken.parent))
    with pytest.raises(NodeFailed) as failure:
        own.up()

    assert "the disk is made of cheese" in str(failure.value)
    assert re.search(r"etcd ended \d times", str(failure.value))
    assert _left(own) == []
    assert _host() == before


def test_a_tied_node_dies_with_its_owner_however_that_ends(own: Node) -> None:
    script = (
        f"import sys, time; sys.path.insert(0, {str(ROOT / 'tools')!r})\n"
        "from pathlib import Path; from cluster.node.life import Node\n"
        f"record = Node(Path({str(own.layout.folder)!r}), tied=True, say=lambda _: None).up()\n"
        "print(record.pid, record.gate, flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pids = [int(word) for word in owner.stdout.readline().split()]
        owner.kill()
    _until_gone(pids)

    assert len(pids) == 2
    eventually(lambda: _processes(own) == [], 60)


def test_the_kubeconfig_and_the_keys_are_for_their_owner_only(own: Node) -> None:
    own.up()

    secrets = [own.layout.kubeconfig, *own.layout.pki.glob("*.key"), *own.layout.pki.glob("*.kubeconfig")]
    assert len(secrets) > 8
    assert {oct(secret.stat().st_mode & 0o777) for secret in secrets} == {"0o600"}


def _host() -> dict[str, object]:
    """What of the host a node could change."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    links = subprocess.run(["ip", "-oneline", "link"], capture_output=True, text=True, check=True).stdout
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
    routes = subprocess.run(["ip", "route", "show", "table", "all"], capture_output=True, text=True, check=True).stdout
    return {
        "mounts": sorted(mounts),
        "links": links,
        "rules": [line for line in rules.splitlines() if line.startswith(("-A", ":"))],
        "routes": routes,
        "sysctls": {name: Path("/proc/sys", name).read_text() for name in SYSCTLS},
        "places": [place for place in PLACES if Path(place).exists()],
        "control groups": sorted(str(path) for path in Path("/sys/fs/cgroup").rglob("model-runtime-*")),
    }


def _left(node: Node) -> list[object]:
    """What there still is of it."""
    return [*_processes(node), *([node.layout.folder] if node.layout.folder.exists() else [])]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _processes(node: Node) -> list[str]:
    """The command lines that name the node's folder, or that run in its control groups."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            groups = (process / "cgroup").read_text()
        except OSError:
            continue
        if (
            process.name != str(os.getpid())
            and _runs(int(process.name))
            and (f"{node.layout.folder}/" in command or f"/{node.layout.cgroup}" in groups)
        ):
            found.append(command)
    return found


def _until_gone(pids: list[int]) -> None:
    eventually(lambda: not any(map(_runs, pids)), 60)


def _runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
