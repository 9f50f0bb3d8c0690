"""What the figures were made on: processor, kernel, versions, revision."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def describe() -> dict[str, str]:
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "revision": _git("rev-parse", "--short=12", "HEAD") + ("+" if _git("status", "--porcelain", "runtime") else ""),
        **{name: metadata.version(name) for name in ("grpcio", "protobuf", "numpy")},
        "load before": f"{os.getloadavg()[0]:.2f}",
        "executable": Path(sys.executable).name,
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()
