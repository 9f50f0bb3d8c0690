"""The node's life, as the host sees it: up and down. Idempotent: what a crash left behind is cleared before the next start."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from cluster import archives, binaries, leash, packages
from cluster.certificates import Authority

from . import cgroups
from .layout import API_PORT, CONTEXT, COREDNS_IMAGE, NODE, PAUSE_IMAGE, REGISTRY_PORT, Layout

ADDONS = Path(__file__).parent.parent / "addons"
TOOLS = Path(__file__).parent.parent.parent
READY_SECONDS = 120.0
END_SECONDS = 20.0
_IN_TIME = f"--timeout={READY_SECONDS:g}s"
_KUBECONFIGS = ("controller-manager", "scheduler", "kubelet", "kube-proxy")
Say = Callable[[str], None]


class NodeFailed(Exception):
    """The node did not come up, or not go down; the text holds the last lines of its logs."""


@dataclass(frozen=True)
class Record:
    """A node that runs, or is coming up: its processes with their start times (a number alone may be reused), its ports."""

    pid: int
    started: int
    gate: int
    gate_started: int
    api_port: int
    registry_port: int
    seconds: dict[str, float]
    complete: bool = False  # it is up: a start may be broken off before that

    @property
    def alive(self) -> bool:
        return start_time(self.pid) == self.started


class Node:
    """`Node(folder).up()` and `.down()`."""

    def __init__(self, folder: Path, *, tied: bool = False, say: Say = print) -> None:
        """tied: the node dies with this process, however it ends."""
        self.layout = Layout(folder.resolve())
        self._tied, self._say = tied, say
        self._children: list[subprocess.Popen[str]] = []

    # What is -----------------------------------------------------------------------------------------------------------

    @property
    def record(self) -> Record | None:
        """What was written at the start, whether or not the node came up and still runs."""
        try:
            return Record(**json.loads(self.layout.record.read_text()))
        except FileNotFoundError:
            return None

    @property
    def running(self) -> Record | None:
        """The node that is up."""
        record = self.record
        return record if record and record.complete and record.alive else None

    # Up ----------------------------------------------------------------------------------------------------------------

    def up(self) -> Record:
        """Returns when the node is Ready and has DNS."""
        with self._alone():
            return self._up()

    def _up(self) -> Record:
        if record := self.running:
            self._say(f"the node is up already ({self.layout.kubeconfig})")
            return record
        if os.geteuid():
            raise NodeFailed("the node needs root: it mounts file systems and makes network interfaces")
        self._down()
        packages.present(packages.NODE)
        programs = binaries.find(binaries.NODE)
        try:
            return self._start(programs)
        except BaseException as error:
            logs = self._last_lines()
            self._down()  # Ctrl-C as well leaves nothing
            if isinstance(error, (OSError, subprocess.SubprocessError, TimeoutError)):
                raise NodeFailed(f"the node did not come up: {error}\n{logs}") from error
            raise

    def _start(self, programs: dict[str, Path]) -> Record:
        clock = _Clock(self._say)
        self._prepare(programs)
        clock("certificates and images written")
        groups = cgroups.create(self.layout.cgroup)
        pid = self._launch(groups)
        gate, [api, registry] = self._open_gate(pid)
        self._authority.kubeconfig("admin", f"https://127.0.0.1:{api}", CONTEXT).replace(self.layout.kubeconfig)
        record = Record(pid, start_time(pid), gate, start_time(gate), api, registry, clock.seconds)
        self._write(record)
        _until("the API server", lambda: self._api_ready(record), record)
        clock("API server ready")
        self._apply_addons(record)
        _until("the node", self._has_node, record)
        self.kubectl("wait", "--for=condition=Ready", f"node/{NODE}", _IN_TIME)
        clock("node Ready")
        self.kubectl("rollout", "status", "deployment/coredns", "--namespace=kube-system", _IN_TIME)
        clock("DNS ready")
        return self._write(replace(record, complete=True))

    def _prepare(self, programs: dict[str, Path]) -> None:
        layout = self.layout
        for folder in (layout.folder, layout.log, layout.state, layout.programs):
            folder.mkdir(parents=True, exist_ok=True)
        layout.state.chmod(0o711)  # holds keys; pods reach their volumes through it
        for name, path in programs.items():
            (layout.programs / name).symlink_to(path)
        archives.write(layout.archives / "pause.tar", programs["pause"], PAUSE_IMAGE)
        archives.write(layout.archives / "coredns.tar", programs["coredns"], COREDNS_IMAGE)
        self._authority = authority = Authority(layout.pki)
        authority.server()
        authority.server("kubelet-server", f"system:node:{NODE}", "system:nodes")
        authority.service_accounts()
        for user in ("apiserver-kubelet", "front-proxy"):
            authority.client(user)
        for user in _KUBECONFIGS:
            authority.kubeconfig(user, f"https://127.0.0.1:{API_PORT}")

    def _launch(self, groups: list[Path]) -> int:
        """Starts `unshare` and returns the node's PID 1, its only child."""
        command = ["cluster.node.launch", str(self.layout.folder), "tied" if self._tied else "free", *map(str, groups)]
        with (self.layout.log / "node.log").open("ab") as log:
            unshare = self._python(command, stdout=log, stderr=log)
        children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")
        _until("PID 1 of the node", lambda: unshare.poll() is None and bool(children.read_text()))
        return int(children.read_text())

    def _open_gate(self, pid: int) -> tuple[int, list[int]]:
        command = ["cluster.node.gate", str(pid), str(API_PORT), str(REGISTRY_PORT)]
        with (self.layout.log / "gate.log").open("ab") as log:
            gate = self._python(command, stdout=subprocess.PIPE, stderr=log)
        assert gate.stdout is not None
        with gate.stdout as out:
            ports = [int(port) for port in out.readline().split()]
        if not ports:
            raise TimeoutError("the way into its network did not open")
        return gate.pid, ports

    def _python(self, command: list[str], *, stdout: int | IO[bytes], stderr: IO[bytes]) -> subprocess.Popen[str]:
        process: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            env={**os.environ, "PYTHONPATH": str(TOOLS)},
            cwd="/",
            start_new_session=True,
        )
        self._children.append(process)
        return process

    def _api_ready(self, record: Record) -> bool:
        context = ssl.create_default_context(cafile=self.layout.pki / "ca.crt")
        try:
            with urllib.request.urlopen(f"https://127.0.0.1:{record.api_port}/readyz", timeout=2, context=context):
                return True
        except OSError:
            return False

    def _apply_addons(self, record: Record) -> None:
        def applied() -> bool:  # the first seconds have no namespace kube-system and no priority classes yet
            with contextlib.suppress(subprocess.CalledProcessError):
                return bool(self.kubectl("apply", "--server-side", "--filename", str(ADDONS)))
            return False

        _until("the add-ons", applied, record)

    def _has_node(self) -> bool:
        return bool(self.kubectl("get", "nodes", "--output=name"))

    def _write(self, record: Record) -> Record:
        unfinished = self.layout.record.with_suffix(".new")
        unfinished.write_text(json.dumps(asdict(record), indent=1))
        unfinished.replace(self.layout.record)  # whoever reads it, even after a kill -9, reads all of it
        return record

    # Down --------------------------------------------------------------------------------------------------------------

    def down(self) -> None:
        """Ends the node, if there is one, and removes everything of it."""
        with self._alone():
            self._down()

    def _down(self) -> None:
        if record := self.record:
            for pid, started in ((record.pid, record.started), (record.gate, record.gate_started)):
                _end(pid, started)
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                child.kill()  # unshare takes its PID 1 along
            child.wait()
        self._children.clear()
        if left := cgroups.remove(self.layout.cgroup):
            raise NodeFailed(f"processes are left in {', '.join(map(str, left))}")
        if self.layout.folder.exists():
            shutil.rmtree(self.layout.folder)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else brings this node up or down meanwhile; who wants to, waits."""
        descriptor = os.open(self.layout.folder.parent, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    # Use ---------------------------------------------------------------------------------------------------------------

    def kubectl(self, *arguments: str) -> str:
        kubectl = self.layout.programs / "kubectl"
        environment = {**os.environ, "KUBECACHEDIR": str(self.layout.state / "kubectl")}
        done = subprocess.run(
            leash.tied([str(kubectl), f"--kubeconfig={self.layout.kubeconfig}", *arguments]),
            capture_output=True,
            text=True,
            env=environment,
        )
        done.check_returncode()
        return done.stdout

    def enter(self, *command: str) -> list[str]:
        """The command line that runs a command inside the node."""
        record = self.running
        if record is None:
            raise NodeFailed("the node is not up")
        path = f"PATH={self.layout.programs}:{os.environ['PATH']}"
        namespaces = ["--mount", "--net", "--pid", "--uts", "--ipc"]
        return ["nsenter", f"--target={record.pid}", *namespaces, "env", path, *command]

    def _last_lines(self) -> str:
        logs = sorted(self.layout.log.glob("*.log"))
        return "\n".join(f"{log.stem}: {log.read_text(errors='replace')[-600:]}" for log in logs)


class _Clock:
    """Says what was reached, and keeps when."""

    def __init__(self, say: Say) -> None:
        self._say, self._begin = say, time.monotonic()
        self.seconds: dict[str, float] = {}

    def __call__(self, what: str) -> None:
        self.seconds[what] = round(time.monotonic() - self._begin, 1)
        self._say(f"{what} ({self.seconds[what]} s)")


def start_time(pid: int) -> int:
    """When the process was started, in clock ticks since boot; 0 where there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])


def _end(pid: int, started: int) -> None:
    """Kills the process, if it is still the one we know, and waits until it has ended."""
    if not started or start_time(pid) != started:
        return
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + END_SECONDS
    while start_time(pid) == started:
        if time.monotonic() > end:
            raise NodeFailed(f"process {pid} does not end")
        time.sleep(0.02)


def _until(what: str, reached: Callable[[], bool], record: Record | None = None) -> None:
    end = time.monotonic() + READY_SECONDS
    while not reached():
        if record and not record.alive:
            raise TimeoutError("its PID 1 has ended")
        if time.monotonic() > end:
            raise TimeoutError(f"{what} is not there after {READY_SECONDS:g} s")
        time.sleep(0.05)
