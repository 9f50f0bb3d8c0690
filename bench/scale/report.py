"""The figures as Markdown, and what has become worse since the run that is recorded. Measures nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .figures import Figures

WORSE = 1.25  # a figure that is worse by more than this is told


def _still(figures: Figures) -> str:
    minutes = figures.still.seconds / 60
    return f"{figures.still.writes / minutes:.0f} / {figures.still.calls / minutes:.0f}"


def _writes(figures: Figures) -> str:
    each = {kind: count / figures.count for kind, count in sorted(figures.burst.writes.items())}
    return f"{sum(each.values()):.1f}: " + ", ".join(f"{kind} {count:.1f}" for kind, count in each.items())


def _share(figures: Figures) -> float:
    return figures.burst.cpu_seconds["operator"] / figures.burst.cpu_seconds["kube-apiserver"]


_ROWS: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("all created, s", lambda f: f"{f.burst.created_seconds:.1f}"),
    ("**all reconciled, s**", lambda f: f"**{f.burst.reconciled_seconds:.1f}**"),
    ("the same writes without an operator, s", lambda f: f"{f.floor_seconds:.1f}"),
    ("reconciled against that", lambda f: f"{f.against_floor:.2f}"),
    ("all Ready, s (scheduler, controllers and kwok included)", lambda f: f"{f.burst.ready_seconds:.1f}"),
    ("calls to the API server, each ModelRuntime", lambda f: f"{f.calls_each:.1f}"),
    ("writes among them", _writes),
    ("operator CPU until reconciled, ms each", lambda f: f"{f.burst.operator_cpu_seconds / f.count * 1e3:.1f}"),
    (
        "operator CPU until Ready, ms each",
        lambda f: f"{f.burst.cpu_seconds.get('operator', 0.0) / f.count * 1e3:.1f}",
    ),
    ("operator memory, MiB: idle", lambda f: f"{f.memory.idle:.0f}"),
    ("… at its peak", lambda f: f"{f.memory.peak:.0f}"),
    ("… after", lambda f: f"{f.memory.settled:.0f}"),
    (
        "one changed, ms to its new status: p50 / worst",
        lambda f: f"{f.change.p50_ms:.0f} / {f.change.worst_ms:.0f}",
    ),
    ("nothing happens: writes / calls a minute", _still),
    ("… CPU, % of a core", lambda f: f"{f.still.cpu_percent:.1f}"),
    ("operator started anew, s: caches filled", lambda f: f"{f.restart.ready_seconds:.1f}"),
    ("… every ModelRuntime looked at", lambda f: f"{f.restart.quiet_seconds:.1f}"),
    ("… writes", lambda f: f"{f.restart.writes}"),
    ("… CPU, s", lambda f: f"{f.restart.cpu_seconds:.1f}"),
    ("… memory, MiB", lambda f: f"{f.restart.resident_mib:.0f}"),
)
_WATCHED: dict[str, Callable[[Figures], float]] = {
    "all reconciled, against the same writes without an operator": lambda f: f.against_floor,
    "calls each": lambda f: f.calls_each,
    "operator CPU each, against the API server's": _share,
    "peak memory": lambda f: f.memory.peak,
    "writes of a restart": lambda f: 1 + f.restart.writes,
    "writes while nothing happens": lambda f: 1 + f.still.writes,
}


def markdown(circumstances: dict[str, Any], fleets: Sequence[Figures]) -> Iterator[str]:
    yield "# The operator and many ModelRuntimes\n"
    yield (
        "Made by `make bench-scale`: a real API server with etcd, controller-manager and scheduler; kwok plays nodes and "
        "kubelets; the operator with the rights that the chart gives it, and a Lease. All of it, and the driver, share the "
        "machine's cores."
    )
    yield f"\n{_machine(circumstances)}\n"
    yield from _table("ModelRuntimes", fleets, _ROWS)
    yield "\n## CPU seconds until all were Ready, by program\n"
    programs = sorted({name for each in fleets for name in each.burst.cpu_seconds})
    yield from _table("program", fleets, [(name, _cpu_of(name)) for name in programs])
    if len(fleets) > 1:
        yield "\n## How it grows\n"
        yield from _growth(fleets)


def regressions(old: Sequence[Figures], new: Sequence[Figures]) -> Iterator[str]:
    """A line for each figure that is worse than in the recorded run. Absolute times are not compared: machines differ."""
    before = {each.count: each for each in old}
    for now in new:
        for name, figure in _WATCHED.items() if now.count in before else ():
            was, is_now = figure(before[now.count]), figure(now)
            if is_now > was * WORSE:
                yield f"{now.count} ModelRuntimes: {name}: {is_now:.2f}, was {was:.2f}"


def _table(
    title: str, fleets: Sequence[Figures], rows: Sequence[tuple[str, Callable[[Figures], str]]]
) -> Iterator[str]:
    yield f"| {title} | " + " | ".join(f"{each.count:,}" for each in fleets) + " |"
    yield "|---|" + "---|" * len(fleets)
    for name, cell in rows:
        yield f"| {name} | " + " | ".join(cell(each) for each in fleets) + " |"


def _growth(fleets: Sequence[Figures]) -> Iterator[str]:
    for small, large in itertools.pairwise(fleets):
        times = large.count / small.count
        told = ", ".join(
            f"{name} ×{figure(large) / figure(small):.1f}"
            for name, figure in (
                ("time to all reconciled", lambda f: f.burst.reconciled_seconds),
                ("time without an operator", lambda f: f.floor_seconds),
                ("calls", lambda f: float(f.burst.calls)),
                ("operator CPU until Ready", lambda f: f.burst.cpu_seconds["operator"]),
                ("start until every one was looked at", lambda f: f.restart.quiet_seconds),
            )
        )
        per_thousand = (large.memory.peak - small.memory.peak) / (large.count - small.count) * 1000
        yield f"* {small.count:,} → {large.count:,} (×{times:.0f}): {told}; peak memory {per_thousand:.0f} MiB more a thousand."


def _cpu_of(program: str) -> Callable[[Figures], str]:
    return lambda figures: f"{figures.burst.cpu_seconds.get(program, 0.0):.1f}"


def _machine(facts: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    where = f"{facts['cores']} cores, {facts['memory_gib']} GiB, {facts['system']}"
    return (
        f"{facts['when']}, revision {facts['revision']}; {where}; Kubernetes {facts['kubernetes']}, "
        f"Python {facts['python']}, {packages}."
    )
