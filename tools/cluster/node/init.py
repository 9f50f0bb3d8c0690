"""PID 1 of the node: prepares the place, starts the components, starts those again that end, reaps what is left to it.

`python -m cluster.node.init FOLDER`, inside the namespaces. Its death ends everything in them.
"""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from . import components, configuration, mounts, network
from .components import Component
from .layout import API_PORT, NODE, VOLUMES, Layout

START_SECONDS = 90.0
RESTART_SECONDS = 1.0  # before a component that ended is started again
RESTARTS = 5  # of one component before the node is up: then it will not come up
POLL_SECONDS = 0.1


def main() -> None:
    layout = Layout(Path(sys.argv[1]))
    socket.sethostname(NODE)
    mounts.prepare(layout)
    network.prepare()
    os.environ["PATH"] = f"{layout.programs}:{os.environ['PATH']}"
    supervisor = Supervisor(layout)
    for component in components.first(layout):
        supervisor.start(component)
    supervisor.watch("containerd", configuration.CONTAINERD_SOCKET.exists)
    for archive in sorted(layout.archives.glob("*.tar")):
        subprocess.run(["ctr", "--namespace=k8s.io", "images", "import", str(archive)], check=True)
    supervisor.watch("kube-apiserver", lambda: _api_ready(layout))
    for component in components.second(layout):
        supervisor.start(component)
    supervisor.watch_on()


class Supervisor:
    """Starts components, and starts them again when they end."""

    def __init__(self, layout: Layout) -> None:
        self._log = layout.log
        self._running: dict[int, tuple[Component, subprocess.Popen[bytes]]] = {}
        self._due: dict[float, Component] = {}
        self._ends: Counter[str] = Counter()

    def start(self, component: Component) -> None:
        with (self._log / f"{component.name}.log").open("ab") as log:
            process = subprocess.Popen(
                component.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **component.environment},
                start_new_session=True,
            )
        # It is kept: of a forgotten one `subprocess` takes the end for itself, and nobody would start it again.
        self._running[process.pid] = component, process

    def watch(self, what: str, ready: Callable[[], bool]) -> None:
        """Returns when that is ready, which is waited for as long as the components run."""
        end = time.monotonic() + START_SECONDS
        while not ready():
            self._tend()
            name, ends = max(self._ends.items(), key=lambda item: item[1], default=("", 0))
            if ends > RESTARTS:
                sys.exit(f"{name} ended {ends} times, so the node does not come up")
            if time.monotonic() > end:
                sys.exit(f"{what} is not ready after {START_SECONDS:g} s")
            time.sleep(POLL_SECONDS)

    def watch_on(self) -> None:
        """Never returns."""
        while True:
            self._tend()
            _open_volumes()
            time.sleep(POLL_SECONDS)

    def _tend(self) -> None:
        self._reap()
        for due in [due for due in self._due if due <= time.monotonic()]:
            self.start(self._due.pop(due))

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            component, _ = self._running.pop(pid, (None, None))
            if component:
                print(f"{component.name} ended with {os.waitstatus_to_exitcode(status)}; starts again", flush=True)
                self._due[time.monotonic() + RESTART_SECONDS] = component
                self._ends[component.name] += 1


def _open_volumes() -> None:
    """The hostPath provisioner makes folders that only root may enter; pods have other users, as with any real volume."""
    for volume in VOLUMES.iterdir():
        if volume.stat().st_mode & 0o777 != 0o777:
            volume.chmod(0o777)


def _api_ready(layout: Layout) -> bool:
    context = ssl.create_default_context(cafile=layout.pki / "ca.crt")
    try:
        with urllib.request.urlopen(f"https://127.0.0.1:{API_PORT}/readyz", timeout=2, context=context):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    main()
