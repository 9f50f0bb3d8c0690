"""The node's network, made by its PID 1 inside its own network namespace: one bridge, and no way out."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from .layout import FIRST_POD_ADDRESS, NODE_ADDRESS, POD_RANGE, RUN, SERVICE_RANGE

BRIDGE = "cni0"
CONFIGURATION = RUN / "cni" / "net.d"


def prepare() -> None:
    """The bridge is the node's address and the pods' gateway."""
    _ip("link", "set", "lo", "up")
    _ip("link", "add", BRIDGE, "type", "bridge")
    _ip("address", "add", f"{NODE_ADDRESS}/{POD_RANGE.split('/')[1]}", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")
    # Without a route the kernel drops a packet for a Service before kube-proxy's rules could send it on.
    _ip("route", "add", SERVICE_RANGE, "dev", BRIDGE)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    Path("/proc/sys/net/bridge/bridge-nf-call-iptables").write_text("1")
    (RUN / "resolv.conf").write_text(f"nameserver {NODE_ADDRESS}\n")
    CONFIGURATION.mkdir(parents=True)
    (CONFIGURATION / "10-bridge.conflist").write_text(json.dumps(_plugins()))


def _plugins() -> dict[str, object]:
    """The container network: pods on the bridge, with addresses handed out from a folder."""
    addresses = {
        "type": "host-local",
        "dataDir": str(RUN / "cni" / "networks"),
        "ranges": [[{"subnet": POD_RANGE, "rangeStart": FIRST_POD_ADDRESS, "gateway": NODE_ADDRESS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,  # a pod may reach itself through its Service
        "ipam": addresses,
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, ports]}


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
