"""`python -m cluster tools|apiserver`: build what is missing, or run a control plane until Ctrl-C."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import threading
from pathlib import Path

from . import binaries
from .controlplane import ControlPlane, ControlPlaneFailed

KUBECONFIG = Path(__file__).parent.parent.parent / "kubeconfig"


def main() -> int:
    parser = argparse.ArgumentParser(prog="cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("tools", help="build the programs that are missing")
    run = commands.add_parser("apiserver", help="run a control plane until Ctrl-C; writes ./kubeconfig")
    run.add_argument("--no-controllers", action="store_true", help="etcd and the API server only")
    run.add_argument("--scheduler", action="store_true", help="with kube-scheduler")
    run.add_argument("--kwok", action="store_true", help="with kwok, which plays nodes and pods")
    arguments = parser.parse_args()
    try:
        if arguments.command == "tools":
            for name, path in binaries.find(binaries.PROGRAMS).items():
                print(f"{name}: {path}")
            return 0
        return _apiserver(arguments)
    except (binaries.BinaryMissing, ControlPlaneFailed) as error:
        print(error, file=sys.stderr)
        return 1


def _apiserver(arguments: argparse.Namespace) -> int:
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    with ControlPlane(
        controllers=not arguments.no_controllers, scheduler=arguments.scheduler, kwok=arguments.kwok
    ) as plane:
        shutil.copy(plane.kubeconfig, KUBECONFIG)
        KUBECONFIG.chmod(0o600)
        print(
            f"{plane.server} ready after {plane.times['ready']} s; Ctrl-C ends it\nexport KUBECONFIG={KUBECONFIG}",
            flush=True,
        )
        asked.wait()
    KUBECONFIG.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
