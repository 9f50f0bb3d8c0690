"""What runs on the node, as command lines, in the order in which it starts. Writes configuration files below /run only."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from cluster.packages import network_plugins

from . import configuration, network
from .layout import API_PORT, NODE, NODE_ADDRESS, RUN, SERVICE_RANGE, Layout

CONTROLLER_FLAGS = (
    "--bind-address=127.0.0.1",
    "--leader-elect=false",
    "--kube-api-qps=500",  # the default of 20 makes a new namespace wait five seconds for its service account
    "--kube-api-burst=1000",
    "--profiling=false",
)


@dataclass(frozen=True)
class Component:
    """One program of the node; it is started again when it ends."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


def first(layout: Layout) -> list[Component]:
    """Those that need no API server."""
    return [_etcd(layout), _apiserver(layout), _containerd(layout), _registry(layout)]


def second(layout: Layout) -> list[Component]:
    """Those that work with it."""
    return [_controller_manager(layout), _scheduler(layout), _kubelet(layout), _kube_proxy(layout)]


def _etcd(layout: Layout) -> Component:
    return Component("etcd", ("etcd", f"--data-dir={layout.state}/etcd", "--unsafe-no-fsync", "--log-level=warn"))


def _apiserver(layout: Layout) -> Component:
    pki = layout.pki
    flags = (
        "--etcd-servers=http://127.0.0.1:2379",
        "--bind-address=0.0.0.0",
        f"--advertise-address={NODE_ADDRESS}",
        f"--secure-port={API_PORT}",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        "--kubelet-preferred-address-types=InternalIP",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        f"--requestheader-client-ca-file={pki}/ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki}/front-proxy.crt",
        f"--proxy-client-key-file={pki}/front-proxy.key",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--allow-privileged=true",
        "--profiling=false",
        f"--cert-dir={RUN}/apiserver",
    )
    return Component("kube-apiserver", ("kube-apiserver", *flags))


def _containerd(layout: Layout) -> Component:
    runc = shutil.which("runc") or "runc"
    text = configuration.containerd(layout, runc=runc, plugins=str(network_plugins()), network=network.CONFIGURATION)
    for hosts, reach in configuration.registry_hosts().items():
        _write(hosts, reach)
    return Component("containerd", ("containerd", "--config", str(_write(RUN / "containerd.toml", text))))


def _registry(layout: Layout) -> Component:
    file = _write(RUN / "registry.yaml", configuration.registry(layout))
    # It would send traces to a collector that is not there.
    return Component("registry", ("registry", "serve", str(file)), {"OTEL_TRACES_EXPORTER": "none"})


def _controller_manager(layout: Layout) -> Component:
    flags = (
        f"--kubeconfig={layout.pki}/controller-manager.kubeconfig",
        *CONTROLLER_FLAGS,
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={layout.pki}/sa.key",
        f"--root-ca-file={layout.pki}/ca.crt",
        f"--cert-dir={RUN}/controller-manager",
        f"--flex-volume-plugin-dir={RUN}/flex",
        "--enable-hostpath-provisioner=true",  # the default StorageClass
    )
    return Component("kube-controller-manager", ("kube-controller-manager", *flags))


def _scheduler(layout: Layout) -> Component:
    config = f"{layout.pki}/scheduler.kubeconfig"
    flags = (
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        *CONTROLLER_FLAGS,
        f"--cert-dir={RUN}/scheduler",
    )
    return Component("kube-scheduler", ("kube-scheduler", *flags))


def _kubelet(layout: Layout) -> Component:
    flags = (
        f"--config={_write(RUN / 'kubelet.yaml', configuration.kubelet(layout))}",
        f"--kubeconfig={layout.pki}/kubelet.kubeconfig",
        f"--root-dir={layout.state}/kubelet",
        f"--hostname-override={NODE}",
        f"--node-ip={NODE_ADDRESS}",
    )
    return Component("kubelet", ("kubelet", *flags))


def _kube_proxy(layout: Layout) -> Component:
    text = configuration.kube_proxy(layout.pki / "kube-proxy.kubeconfig")
    return Component("kube-proxy", ("kube-proxy", f"--config={_write(RUN / 'kube-proxy.yaml', text)}"))


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
