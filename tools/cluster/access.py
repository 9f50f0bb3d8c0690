"""Access to a whole cluster, ours or the developer's own: its kubeconfig, its registry, kubectl.

A cluster of one's own (kind, k3s, …) is named by the variables E2E_KUBECONFIG, E2E_REGISTRY_PUSH and E2E_REGISTRY_PULL; it is
touched only if E2E_ALLOWED_CONTEXTS (comma-separated) has its current context. Without them it is the node of `make cluster`.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from . import binaries
from .node.layout import CONTEXT, REGISTRIES, REGISTRY
from .node.life import Node

FOLDER = Path(os.environ.get("CLUSTER_FOLDER", Path(__file__).parent.parent.parent / ".cluster"))


class NotAllowed(Exception):
    """There is no cluster to work on, or its context is not on the allow-list."""


@dataclass(frozen=True)
class Access:
    """A cluster with a registry that both the host and the cluster reach."""

    kubeconfig: Path
    push: str  # the registry as the host reaches it, HOST:PORT
    pull: str  # the same as the cluster names it
    images: Path  # where `make images` leaves what it pushed
    inside: tuple[str, ...] = ()  # what runs a command inside our own node

    def kubectl(self, *arguments: str, text: str | None = None, timeout: float = 300.0) -> str:
        """kubectl's output. Raises CalledProcessError, whose `stderr` says why."""
        done = subprocess.run(
            self.command(*arguments),
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment(),
        )
        done.check_returncode()
        return done.stdout

    def command(self, *arguments: str) -> list[str]:
        """The command line of kubectl, for those who run it themselves (port-forward, logs --follow)."""
        kubectl = binaries.find(["kubectl"])["kubectl"]
        return [str(kubectl), f"--kubeconfig={self.kubeconfig}", *arguments]

    def environment(self) -> dict[str, str]:
        """kubectl's and helm's: their caches are kept per cluster, as addresses are used again."""
        cache = self.kubeconfig.parent / "cache"
        helm = {f"HELM_{kind}_HOME": str(cache / "helm") for kind in ("CACHE", "CONFIG", "DATA")}
        return {**os.environ, **helm, "KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(cache / "kubectl")}

    def pull_again(self, image: str) -> None:
        """Our node takes the image anew: kubelet would keep the one that had the tag before."""
        if self.inside:
            pull = ("ctr", "--namespace=k8s.io", "images", "pull", f"--hosts-dir={REGISTRIES}", image)
            subprocess.run([*self.inside, *pull], check=True, capture_output=True)

    def image(self, target: str) -> str:
        """What `make images` pushed for this target of the Dockerfile, as pods name it, with its digest."""
        try:
            pushed: dict[str, str] = json.loads(self.images.read_text())
        except FileNotFoundError:
            raise NotAllowed("there are no images in this cluster: run `make images`") from None
        return pushed[target]


def current() -> Access:
    """The cluster that the environment names, else the running node."""
    if "E2E_KUBECONFIG" in os.environ:
        return _own(Path(os.environ["E2E_KUBECONFIG"]))
    return of_node(Node(FOLDER))


def of_node(node: Node) -> Access:
    record = node.running
    if record is None:
        raise NotAllowed("the node is down: run `make cluster`")
    folder = node.layout.folder
    return Access(
        node.layout.kubeconfig,
        f"127.0.0.1:{record.registry_port}",
        REGISTRY,
        folder / "images.json",
        tuple(node.enter()),
    )


def _own(kubeconfig: Path) -> Access:
    try:
        context = yaml.safe_load(kubeconfig.read_text()).get("current-context")
    except OSError as error:
        raise NotAllowed(f"E2E_KUBECONFIG: {error}") from None
    allowed = [CONTEXT, *os.environ.get("E2E_ALLOWED_CONTEXTS", "").split(",")]
    if context not in allowed:
        raise NotAllowed(
            f"{kubeconfig}: context {context!r} is not allowed; tests change that cluster: set E2E_ALLOWED_CONTEXTS={context}"
        )
    push = os.environ.get("E2E_REGISTRY_PUSH", "localhost:5001")  # as in kind's guide to local registries
    pull = os.environ.get("E2E_REGISTRY_PULL", push)
    return Access(kubeconfig, push, pull, binaries.CACHE / "images" / f"{context}.json")
