"""`make bench-scale`: fleets of ModelRuntimes on a real API server: time, calls, CPU and memory of the operator, as they grow.

    python bench/operator_scale.py [--record] [COUNT …]

For each fleet a control plane of its own: a burst, single changes, stillness, a restart; then another one in which the driver
makes the same writes without an operator. What is worse than in results/operator.json is told; `--record` writes that file, and
OPERATOR.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from pathlib import Path

from scale import figures, fleet, floor, place, processes, report
from scale.api import Api
from scale.figures import Burst, Change, Figures, Memory, Restart, Still
from scale.fleet import Followed
from scale.program import Operator

from cluster.controlplane import ControlPlane

HERE = Path(__file__).parent
PAGE, RECORD = HERE / "OPERATOR.md", HERE / "results" / "operator.json"
CHANGES = 20
STILL_SECONDS = 60.0
QUIET_SECONDS = 4.0  # without a reconcile: nothing is left to do
MOST_SECONDS = 3600.0  # for one fleet


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", nargs="*", type=int, default=[100, 1000], help="sizes of fleets (100 1000)")
    parser.add_argument("--record", action="store_true", help="write OPERATOR.md and results/operator.json")
    arguments = parser.parse_args()
    fleets = [asyncio.run(asyncio.wait_for(_measured(count), MOST_SECONDS)) for count in arguments.counts]
    facts = figures.circumstances()
    page = "\n".join(report.markdown(facts, fleets))
    print(page)
    worse = list(report.regressions(_recorded(), fleets))
    print("\n".join(f"WORSE than the recorded run: {line}" for line in worse), file=sys.stderr)
    if arguments.record:
        RECORD.parent.mkdir(exist_ok=True)
        RECORD.write_text(json.dumps({**facts, "fleets": [each.to_json() for each in fleets]}, indent=1) + "\n")
        PAGE.write_text(page + "\n")
    return 1 if worse else 0


def _recorded() -> list[Figures]:
    if not RECORD.exists():
        return []
    return [figures.from_json(each) for each in json.loads(RECORD.read_text())["fleets"]]


async def _measured(count: int) -> Figures:
    _say(f"{count:,} ModelRuntimes")
    with ControlPlane(scheduler=True, kwok=True) as plane:
        kubeconfig = place.prepare(plane, fleet.namespaces(count), count)
        log = plane.folder / "operator.log"
        async with Api(plane) as api:
            with Operator(kubeconfig, log) as operator:
                idle = operator.resident_mib
                burst = await _burst(api, operator, count)
                change = await _changes(api, operator, count)
                still = await _still(api, operator)
                memory = Memory(idle, operator.peak_mib, operator.resident_mib)
            restart = await _restart(api, kubeconfig, log, count)
            example = await floor.sample(api)
    return Figures(count, await _floor(count, example), burst, change, still, restart, memory)


async def _burst(api: Api, operator: Operator, count: int) -> Burst:
    followed = Followed(api)
    await followed.begin()
    calls, writes = await place.operator_calls(api), operator.writes
    cpu, everything = operator.cpu_seconds, processes.cpu_of_children()
    began = time.monotonic()
    await fleet.create(api, count)
    created = time.monotonic()
    reconciled = await followed.all_reconciled(count)
    cpu = operator.cpu_seconds - cpu
    _say(f"  all reconciled after {reconciled - began:.1f} s")
    ready = await followed.all_ready(count)
    spent = {name: seconds - everything.get(name, 0.0) for name, seconds in processes.cpu_of_children().items()}
    _say(f"  all Ready after {ready - began:.1f} s")
    await followed.end()
    await _quiet(operator, count)
    return Burst(
        created_seconds=created - began,
        reconciled_seconds=reconciled - began,
        ready_seconds=ready - began,
        operator_cpu_seconds=cpu,
        calls=await place.operator_calls(api) - calls,
        writes=dict(operator.writes - writes),
        cpu_seconds={name: round(seconds, 2) for name, seconds in spent.items()},
    )


async def _changes(api: Api, operator: Operator, count: int) -> Change:
    """One after the other, so that each is alone."""
    followed = Followed(api)
    await followed.begin()
    times = []
    for turn in range(CHANGES):
        number = turn * count // CHANGES
        began = time.monotonic()
        generation = await fleet.change(api, number, replicas=2)
        times.append(await followed.reconciled(fleet.model_runtime(number)["metadata"]["name"], generation) - began)
    await followed.end()
    await _quiet(operator, 0)
    return Change(p50_ms=statistics.median(times) * 1e3, worst_ms=max(times) * 1e3)


async def _still(api: Api, operator: Operator) -> Still:
    calls, writes, cpu, began = await place.operator_calls(api), operator.writes, operator.cpu_seconds, time.monotonic()
    await asyncio.sleep(STILL_SECONDS)
    seconds = time.monotonic() - began
    return Still(
        seconds=seconds,
        writes=(operator.writes - writes).total(),
        calls=await place.operator_calls(api) - calls,
        cpu_percent=(operator.cpu_seconds - cpu) / seconds * 100,
    )


async def _restart(api: Api, kubeconfig: Path, log: Path, count: int) -> Restart:
    calls = await place.operator_calls(api)
    began = time.monotonic()
    with Operator(kubeconfig, log) as operator:
        quiet = await _quiet(operator, count)
        return Restart(
            ready_seconds=operator.seconds_to_ready,
            quiet_seconds=quiet - began,
            writes=operator.writes.total(),
            calls=await place.operator_calls(api) - calls,
            cpu_seconds=operator.cpu_seconds,
            resident_mib=operator.resident_mib,
        )


async def _quiet(operator: Operator, reconciles: int) -> float:
    """Waits until there were so many reconciles and there are no more; when the last of them was seen."""
    seen, since = -1.0, time.monotonic()
    while True:
        now, done = time.monotonic(), operator.metric("reconciles_total")
        if done != seen or done < reconciles:
            seen, since = done, now
        elif now - since > QUIET_SECONDS and operator.metric("queue_depth") == 0:
            return since
        await asyncio.sleep(0.25)


async def _floor(count: int, example: floor.Sample) -> float:
    with ControlPlane(scheduler=True, kwok=True) as plane:
        place.prepare(plane, fleet.namespaces(count), count)
        async with Api(plane) as api:
            seconds = await floor.seconds(api, count, example)
    _say(f"  the same writes without an operator: {seconds:.1f} s")
    return seconds


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
