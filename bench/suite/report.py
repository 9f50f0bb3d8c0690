"""The rows of a run as tables of ratios to the lean baseline of the same round, compared with the last recorded run."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .servers import BASELINE, CONTENDERS, python

Rows = list[dict[str, Any]]
Result = dict[str, Any]

WORSE = 1.15  # our CPU against lean, times what it was: more is called a regression


def line(row: dict[str, Any]) -> str:
    bad = (
        f"  !!! {row['wrong']} WRONG, {row['failed']} FAILED {row['first_error']}"
        if row["wrong"] or row["failed"]
        else ""
    )
    times = f"p50 {row['p50'] * 1e3:8.2f} ms  p99 {row['p99'] * 1e3:8.2f} ms  CPU {row['cpu'] * 1e3:8.3f} s/1000"
    what = f"{row['work']:<16} c={row['concurrency']:<3} {row['server']:<16} {row['rate']:>9,.0f}/s"
    return f"{what}  {times}  peak {row['peak']:6.0f} MiB{bad}"


def record(result: Result, bench: Path) -> None:
    """Writes results/DATE-REVISION.json (again, where this run wrote it before), its plot, and RESULTS.md."""
    folder = bench / "results"
    folder.mkdir(exist_ok=True)
    file = folder / f"{result['made'][:16].replace(':', '')}-{result['machine']['revision'].rstrip('+')}.json"
    earlier = sorted(set(folder.glob("[0-9]*.json")) - {file})
    last = json.loads(earlier[-1].read_text()) if earlier else None
    file.write_text(json.dumps(result, indent=1) + "\n")
    subprocess.run(
        [python("plot"), str(Path(__file__).parent / "plot.py"), str(file), str(bench / "results.svg")], check=True
    )
    (bench / "RESULTS.md").write_text(
        text(result, last) + "\n![ratios](results.svg)\n" + (bench / "results-notes.md").read_text()
    )
    print(f"wrote {file} and RESULTS.md")


def text(result: Result, last: Result | None) -> str:
    return "\n".join(_report(result, last)) + "\n"


def _report(result: Result, last: Result | None) -> Iterator[str]:
    machine, rows = result["machine"], result["rows"]
    rounds = 1 + max((row["round"] for row in rows), default=0)
    yield "# The benchmark\n"
    yield (
        f"Made by `make bench` at {result['made']}: "
        + ", ".join(f"{key} {value}" for key, value in machine.items())
        + "."
    )
    yield (
        "\nServers on one core, the load driver on another; every answer checked. "
        f"Medians of {rounds} rounds; ratios to lean in the same round (lowest–highest).\n"
    )
    for contender in CONTENDERS:
        failed = result["failures"].get(contender.name, {})
        yield f"* **{contender.name}**: {contender.note}" + "".join(
            f". **NOT MEASURED**, {work}: {why.splitlines()[0][:200]}" for work, why in failed.items()
        )
    yield from _ceiling(rows)
    for work in dict.fromkeys(row["work"] for row in rows):
        yield from _table(work, [row for row in rows if row["work"] == work])
    yield from _resources([row for row in rows if row["work"] in ("identity", "regression")])
    yield from _steady(result["steady"])
    yield from _changes(rows, last)


def _ceiling(rows: Rows) -> Iterator[str]:
    best = max((row["rate"] for row in rows if row["server"] == "native"), default=0.0)
    if best:
        yield f"\nThe driver's own ceiling, against the native server: {best:,.0f} answers/s.\n"


def _table(work: str, rows: Rows) -> Iterator[str]:
    yield f"\n## {work}\n"
    yield "| at a time | server | answers/s | against lean | p50 ms | p99 ms | CPU s per 1,000 | against lean |"
    yield "|---|---|---|---|---|---|---|---|"
    for concurrency in sorted({row["concurrency"] for row in rows}):
        for name in dict.fromkeys(row["server"] for row in rows):
            mine = [row for row in rows if (row["server"], row["concurrency"]) == (name, concurrency)]
            if mine:
                lean = {
                    row["round"]: row for row in rows if (row["server"], row["concurrency"]) == (BASELINE, concurrency)
                }
                yield _row(concurrency, name, mine, lean)


def _row(concurrency: int, name: str, mine: Rows, lean: dict[int, dict[str, Any]]) -> str:
    middle = {key: statistics.median(row[key] for row in mine) for key in ("rate", "p50", "p99", "cpu")}
    bad = sum(row["wrong"] + row["failed"] for row in mine)
    figures = [
        f"{middle['rate']:,.0f}", _spread(mine, lean, "rate"), f"{middle['p50'] * 1e3:.2f}", f"{middle['p99'] * 1e3:.2f}",
        f"{middle['cpu'] * 1e3:.3f}", _spread(mine, lean, "cpu"),
    ]  # fmt: skip
    return f"| {concurrency} | {name}{f' (**{bad} wrong or failed**)' if bad else ''} | " + " | ".join(figures) + " |"


def _spread(mine: Rows, lean: dict[int, dict[str, Any]], key: str) -> str:
    ratios = sorted(row[key] / lean[row["round"]][key] for row in mine if row["round"] in lean)
    if not ratios:
        return "–"
    middle = f"{statistics.median(ratios):.2f}"
    return middle if len(ratios) == 1 else f"{middle} ({ratios[0]:.2f}–{ratios[-1]:.2f})"


def _resources(rows: Rows) -> Iterator[str]:
    yield "\n## Start and memory\n"
    yield "| work | server | start to first right answer, s | idle MiB (PSS) | peak MiB (sum of RSS) |\n|---|---|---|---|---|"
    groups: dict[tuple[str, str], Rows] = defaultdict(list)
    for row in rows:
        groups[row["work"], row["server"]].append(row)
    for (work, name), mine in groups.items():
        start, idle = (statistics.median(row[key] for row in mine) for key in ("start", "idle"))
        yield f"| {work} | {name} | {start:.2f} | {idle:.0f} | {max(row['peak'] for row in mine):.0f} |"


def _steady(steady: dict[str, Any] | None) -> Iterator[str]:
    if steady:
        samples = steady["samples"]
        quarter = max(1, len(samples) // 4)
        first, last = (statistics.mean(each[1] for each in part) for part in (samples[:quarter], samples[-quarter:]))
        yield (
            f"\n## Steady state\n\nOurs, identity, 8 at a time for {steady['seconds']:.0f} s: "
            f"{first:.1f} MiB in the first quarter, {last:.1f} MiB in the last."
        )


def _changes(rows: Rows, last: Result | None) -> Iterator[str]:
    if last is None:
        return
    yield f"\n## Against the last recorded run ({last['made']}, {last['machine']['revision']})\n"
    now, then = _ratios(rows), _ratios(last["rows"])
    worse = [(key, then[key], now[key]) for key in now if key in then and now[key] > then[key] * WORSE]
    for (name, work, concurrency), before, after in worse:
        yield f"* **REGRESSION** {name}, {work}, {concurrency} at a time: CPU against lean {before:.2f} → {after:.2f}"
    if not worse:
        yield f"No CPU ratio of ours grew by more than {(WORSE - 1) * 100:.0f} %."


def _ratios(rows: Rows) -> dict[tuple[str, str, int], float]:
    groups: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for row in rows:
        groups[row["server"], row["work"], row["concurrency"]].append(row["cpu"])
    middle = {key: statistics.median(values) for key, values in groups.items()}
    return {
        key: cpu / middle[(BASELINE, *key[1:])]
        for key, cpu in middle.items()
        if key[0].startswith("ours") and (BASELINE, *key[1:]) in middle
    }
