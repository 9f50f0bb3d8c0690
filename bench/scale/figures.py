"""What was measured of one fleet, and what machine and versions that was on. Plain values that go to JSON and back."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from cluster import binaries

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Burst:
    """All created at once while the operator runs. Seconds count from the first creation."""

    created_seconds: float
    reconciled_seconds: float
    ready_seconds: float
    operator_cpu_seconds: float  # until all were reconciled
    calls: int  # of the operator, as the API server counts them, until all were Ready and all was quiet
    writes: dict[str, int]  # by kind of object, as the operator counts them
    cpu_seconds: dict[str, float]  # of each program, until all were Ready


@dataclass(frozen=True)
class Change:
    """One ModelRuntime of the fleet changed: from the change to the status that speaks of it."""

    p50_ms: float
    worst_ms: float


@dataclass(frozen=True)
class Still:
    """Nothing happens."""

    seconds: float
    writes: int
    calls: int
    cpu_percent: float  # of one core


@dataclass(frozen=True)
class Restart:
    """The operator ends and starts again."""

    ready_seconds: float
    quiet_seconds: float  # from the start until every ModelRuntime was looked at
    writes: int
    calls: int
    cpu_seconds: float
    resident_mib: float


@dataclass(frozen=True)
class Memory:
    """Of the operator, in MiB."""

    idle: float  # ready, with no ModelRuntime
    peak: float
    settled: float


@dataclass(frozen=True)
class Figures:
    """One fleet."""

    count: int
    floor_seconds: float
    burst: Burst
    change: Change
    still: Still
    restart: Restart
    memory: Memory

    @property
    def against_floor(self) -> float:
        return self.burst.reconciled_seconds / self.floor_seconds

    @property
    def calls_each(self) -> float:
        return self.burst.calls / self.count

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def from_json(data: dict[str, Any]) -> Figures:
    parts = {"burst": Burst, "change": Change, "still": Still, "restart": Restart, "memory": Memory}
    return Figures(**{key: parts[key](**value) if key in parts else value for key, value in data.items()})


def circumstances() -> dict[str, Any]:
    """The machine, versions and revision of a run."""
    packages = ("kopf", "aiohttp")
    return {
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "revision": _revision(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGESIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "kubernetes": binaries.KUBERNETES,
        "packages": {name: metadata.version(name) for name in packages},
    }


def _revision() -> str:
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    return told.stdout.strip() or "unknown"
