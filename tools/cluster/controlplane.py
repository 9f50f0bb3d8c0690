"""A control plane on loopback: etcd and kube-apiserver, with controller-manager, scheduler and kwok where asked.

Every port is free and random, TLS and RBAC are on, all data lives in one temporary folder. Neither a program nor the folder
outlives whoever started it, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from . import binaries, kwok, leash
from .certificates import Authority

READY_SECONDS = 90.0
STARTS = 4  # a port that was free may be somebody's by the time it is listened on: then once more, with others
SERVICE_RANGE = "198.18.0.0/16"


class ControlPlaneFailed(Exception):
    """A program of the control plane ended, or did not become ready; the text holds its last lines."""


class _PortTaken(ControlPlaneFailed):
    pass


def free_ports(count: int) -> list[int]:
    """Ports of loopback on which nobody listens at this moment."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


class ControlPlane:
    """`with ControlPlane() as plane:` gives `plane.kubeconfig`, `plane.server` and `plane.kubectl(…)`."""

    def __init__(
        self,
        *,
        controllers: bool = True,
        scheduler: bool = False,
        kwok: bool = False,
        ports: Callable[[int], list[int]] = free_ports,
    ) -> None:
        self._controllers, self._scheduler, self._kwok, self._ports = controllers, scheduler, kwok, ports
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.times: dict[str, float] = {}
        self.server = ""
        self.kubeconfig = Path()

    def __enter__(self) -> ControlPlane:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Life -------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts everything and returns when the API server is ready and (with controllers) has its default service account."""
        names = ["etcd", "kube-apiserver", "kubectl"]
        names += (
            ["kube-controller-manager"] * self._controllers
            + ["kube-scheduler"] * self._scheduler
            + ["kwok"] * self._kwok
        )
        self._programs = binaries.find(names)
        for _ in range(STARTS - 1):
            with contextlib.suppress(_PortTaken):
                return self._start_or_stop()
        return self._start_or_stop()

    def _start_or_stop(self) -> None:
        try:
            self._start_all()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends everything at once: the data is thrown away with it."""
        for process in reversed(self._processes.values()):
            process.kill()
            process.wait()
        self._processes.clear()
        self.leavings.remove()

    def _start_all(self) -> None:
        self._started = time.monotonic()
        self.leavings = leash.Leavings()
        self.folder = Path(tempfile.mkdtemp(prefix="control-plane-"))
        self.leavings.add(self.folder)
        authority = Authority(self.folder / "pki")
        etcd, peer, self.port = self._ports(3)
        self.server = f"https://127.0.0.1:{self.port}"
        self.kubeconfig = authority.kubeconfig("admin", self.server)
        self._context = ssl.create_default_context(cafile=str(authority.certificate))
        self._context.load_cert_chain(self.folder / "pki" / "admin.crt", self.folder / "pki" / "admin.key")
        public, private = authority.service_accounts()
        self._start_etcd(etcd, peer)
        self._start_apiserver(authority, etcd, public, private)
        self._wait(f"{self.server}/readyz", "ready")
        if self._controllers:
            self._start_controllers(authority, private)
        if self._scheduler:
            self._start_scheduler(authority)
        self._wait(f"{self.server}/api/v1/namespaces/default", "default namespace")
        if self._controllers:
            self._wait(f"{self.server}/api/v1/namespaces/default/serviceaccounts/default", "default service account")
        if self._kwok:
            [port] = self._ports(1)
            self._spawn("kwok", *kwok.flags(self.kubeconfig, port))
            self._wait(f"http://127.0.0.1:{port}/readyz", "kwok")

    def _start_etcd(self, client: int, peer: int) -> None:
        self._spawn(
            "etcd",
            f"--data-dir={self.folder}/etcd",
            "--unsafe-no-fsync",
            "--log-level=warn",
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
        )

    def _start_apiserver(self, authority: Authority, etcd: int, public: Path, private: Path) -> None:
        certificate, key = authority.server()
        self._spawn(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}",
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={authority.certificate}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={private}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--allow-privileged=true",
            "--profiling=false",
            f"--cert-dir={self.folder}/apiserver",
        )

    def _start_controllers(self, authority: Authority, private: Path) -> None:
        self._spawn(
            "kube-controller-manager",
            f"--kubeconfig={authority.kubeconfig('controller-manager', self.server)}",
            *self._component_flags(),
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={private}",
            f"--root-ca-file={authority.certificate}",
            f"--flex-volume-plugin-dir={self.folder}/flex",
            # Autoscalers decide in seconds, and from pods that have only just started.
            "--horizontal-pod-autoscaler-sync-period=2s",
            "--horizontal-pod-autoscaler-downscale-stabilization=2s",
            "--horizontal-pod-autoscaler-cpu-initialization-period=1s",
            "--horizontal-pod-autoscaler-initial-readiness-delay=1s",
        )

    def _start_scheduler(self, authority: Authority) -> None:
        config = authority.kubeconfig("scheduler", self.server)
        self._spawn(
            "kube-scheduler",
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            *self._component_flags(),
        )

    def _component_flags(self) -> list[str]:
        [port] = self._ports(1)
        return [
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={self.folder}/{port}",
            "--leader-elect=false",
            "--kube-api-qps=500",  # the default of 20 makes a new namespace wait five seconds for its service account
            "--kube-api-burst=1000",
            "--profiling=false",
        ]

    # What may be asked ------------------------------------------------------------------------------------------------

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """kubectl's output. Raises CalledProcessError, whose `stderr` says why."""
        command = [str(self._programs["kubectl"]), f"--kubeconfig={self.kubeconfig}", *arguments]
        environment = {**os.environ, "KUBECACHEDIR": str(self.folder / "cache")}
        done = subprocess.run(command, input=text, capture_output=True, text=True, env=environment)
        done.check_returncode()
        return done.stdout

    def add_nodes(self, count: int) -> None:
        """Fake nodes (with kwok only), Ready when this returns. What their pods play is told in stages.yaml."""
        self.kubectl("apply", "--filename=-", text=kwok.nodes(count))
        self.kubectl("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s")

    def get(self, path: str) -> Any:
        """The JSON (or text) that the API server answers to a GET of `path`."""
        data = self._ask(self.server + path, timeout=30)
        return json.loads(data) if data.startswith(b"{") else data.decode()

    def resident_mib(self) -> dict[str, int]:
        """The resident memory of each program."""
        page = os.sysconf("SC_PAGESIZE")
        statm = {name: Path(f"/proc/{process.pid}/statm").read_text() for name, process in self._processes.items()}
        return {name: int(text.split()[1]) * page >> 20 for name, text in statm.items()}

    # Programs ---------------------------------------------------------------------------------------------------------

    def _spawn(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            command = leash.tied([str(self._programs[name]), *arguments])
            self._processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _wait(self, url: str, what: str) -> None:
        end = time.monotonic() + READY_SECONDS
        while True:
            self._check_alive()
            try:
                self._ask(url, timeout=5)
                self.times[what] = round(time.monotonic() - self._started, 2)
                return
            except OSError as error:
                if time.monotonic() > end:
                    raise ControlPlaneFailed(f"no {what} within {READY_SECONDS:g} s: {error}\n{self._logs()}") from None
                time.sleep(0.05)

    def _ask(self, url: str, timeout: float) -> bytes:
        with urllib.request.urlopen(url, timeout=timeout, context=self._context) as answer:
            return bytes(answer.read())

    def _check_alive(self) -> None:
        for name, process in self._processes.items():
            if process.poll() is not None:
                logs = self._logs()
                failure = _PortTaken if "address already in use" in logs else ControlPlaneFailed
                raise failure(f"{name} ended with {process.returncode}\n{logs}")

    def _logs(self) -> str:
        return "\n".join(f"{log.stem}: {log.read_text(errors='replace')[-1500:]}" for log in self.folder.glob("*.log"))
