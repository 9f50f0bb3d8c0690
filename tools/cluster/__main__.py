"""`python -m cluster …`: the tools, a control plane until Ctrl-C, or the whole node and the images for it."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

from . import access, binaries, images, packages
from .controlplane import ControlPlane, ControlPlaneFailed
from .node import report
from .node.cgroups import NoControlGroups
from .node.life import Node, NodeFailed

ROOT = Path(__file__).parent.parent.parent
FAILURES = (
    binaries.BinaryMissing,
    packages.PackageMissing,
    ControlPlaneFailed,
    NodeFailed,
    NoControlGroups,
    images.ImageFailed,
    access.NotAllowed,
)


def main() -> int:
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C does: what was begun is taken down
    try:
        return int(arguments.run(arguments) or 0)
    except KeyboardInterrupt:
        return 130
    except FAILURES as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cluster", description=__doc__)
    commands = parser.add_subparsers(required=True)

    tools = commands.add_parser("tools", help="build the programs that are missing")
    tools.add_argument("--node", action="store_true", help="those of the node and its tests, not of the everyday ones")
    tools.set_defaults(run=_tools)

    plane = commands.add_parser("apiserver", help="run a control plane until Ctrl-C; writes ./kubeconfig")
    plane.add_argument("--no-controllers", action="store_true", help="etcd and the API server only")
    plane.add_argument("--scheduler", action="store_true", help="with kube-scheduler")
    plane.add_argument("--kubeconfig", type=Path, default=ROOT / "kubeconfig", help="the file to write, while it runs")
    plane.add_argument("--kwok", action="store_true", help="with kwok, which plays nodes and pods")
    plane.set_defaults(run=_apiserver)

    for name, run, text in (
        ("up", _up, "bring the node up; writes .cluster/kubeconfig"),
        ("down", _down, "end the node and remove everything of it"),
        ("status", _status, "say how the node is"),
        ("images", _images, "build the Dockerfile's targets and push them to the node's registry"),
    ):
        commands.add_parser(name, help=text).set_defaults(run=run)
    around = commands.add_parser("with-node", help="run a command while the node is up with its images")
    around.add_argument("inner", nargs=argparse.REMAINDER)
    around.set_defaults(run=_with_node)
    inside = commands.add_parser(
        "run", help="run a command inside the node: run ip address, run ctr -n k8s.io images ls"
    )
    inside.add_argument("inner", nargs=argparse.REMAINDER)
    inside.set_defaults(run=_run)
    return parser


def _tools(arguments: argparse.Namespace) -> None:
    binaries.find((*binaries.NODE, "helm") if arguments.node else binaries.TESTS)


def _apiserver(arguments: argparse.Namespace) -> None:
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    with ControlPlane(
        controllers=not arguments.no_controllers, scheduler=arguments.scheduler, kwok=arguments.kwok
    ) as plane:
        plane.leavings.add(arguments.kubeconfig)
        shutil.copy(plane.kubeconfig, arguments.kubeconfig)  # with its mode: for the owner only
        print(f"{plane.server} ready after {plane.times['ready']} s; Ctrl-C ends it")
        print(f"export KUBECONFIG={arguments.kubeconfig.absolute()}", flush=True)
        asked.wait()


def _node(*, tied: bool = False) -> Node:
    return Node(access.FOLDER, tied=tied, say=lambda text: print(text, flush=True))


def _up(_: argparse.Namespace) -> None:
    node = _node()
    node.up()
    print(report.text(node))


def _down(_: argparse.Namespace) -> None:
    _node().down()
    print("the node is down")


def _status(_: argparse.Namespace) -> int:
    node = _node()
    print(report.text(node))
    return 0 if node.running else 3


def _images(_: argparse.Namespace) -> None:
    for target, image in images.publish(access.current()).items():
        print(f"{target}: {image}")


def _with_node(arguments: argparse.Namespace) -> int:
    own = "E2E_KUBECONFIG" not in os.environ
    node = _node(tied=True)
    was_up = node.running
    try:
        if own:
            node.up()
        images.publish(access.current())
        return subprocess.run(arguments.inner).returncode
    finally:
        if own and not was_up:
            node.down()


def _run(arguments: argparse.Namespace) -> int:
    command = _node().enter(*arguments.inner)
    environment = {**os.environ, "KUBECONFIG": str(access.FOLDER / "kubeconfig")}
    return subprocess.run(command, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
