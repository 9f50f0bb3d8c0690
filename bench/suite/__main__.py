"""`make bench`: measures, prints as it goes, and writes bench/results/*.json and bench/RESULTS.md."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from model_runtime import requirements

from . import load, machine, report
from .load import Asker
from .process import Failed, Server, free_port
from .servers import CONTENDERS, Contender
from .work import Work, all_work, computed

BENCH = Path(__file__).parent.parent
QUICK_NAMES = ("lean", "hydrosphere", "ours", "ours batching", "ours in process", "native", "pytriton")
QUICK_WORK = ("identity", "regression", "4 MiB floats")


def main() -> int:
    arguments = _arguments()
    works = [work for work in all_work() if not arguments.quick or work.name in QUICK_WORK]
    works = [work for work in works if not arguments.work or work.name in arguments.work]
    names = arguments.server or (QUICK_NAMES if arguments.quick else [each.name for each in CONTENDERS])
    contenders = [each for each in CONTENDERS if each.name in names]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(Path(folder), arguments.seconds or (1.5 if arguments.quick else 3.0))
        for number in range(arguments.rounds or (1 if arguments.quick else 3)):
            for work in works:
                bench.measure(number, bench.prepared(work), contenders)
            if arguments.record:  # each round, so that a run that is cut short leaves those that were whole
                report.record(bench.result, BENCH)
        if arguments.steady:
            bench.steady(arguments.steady)
    if arguments.record:
        report.record(bench.result, BENCH)
    else:
        print(report.text(bench.result, None))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="the nearest peers and three kinds of work, once: under five minutes"
    )
    parser.add_argument("--record", action="store_true", help="write bench/results/*.json and bench/RESULTS.md")
    parser.add_argument("--rounds", type=int, help="how often everything is measured (default 3; quick 1)")
    parser.add_argument("--seconds", type=float, help="of each load (default 3; quick 1.5)")
    parser.add_argument("--steady", type=float, default=0, help="seconds of steady load on our server, to see leaks")
    parser.add_argument("--server", action="append", help="only this one; may be repeated")
    parser.add_argument("--work", action="append", help="only this; may be repeated")
    return parser.parse_args()


class Bench:
    """Measures, and keeps a row for each server, work, concurrency and round."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder, self._seconds = folder, seconds
        self._rows: list[dict[str, Any]] = []
        self._failures: dict[str, dict[str, str]] = {}  # server and work: why
        # What report.py makes tables of; made and machine are of the start: a commit beside a run is not what ran.
        self.result: report.Result = {
            "machine": machine.describe(),
            "made": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "rows": self._rows,
            "steady": None,
            "failures": self._failures,
        }

    def prepared(self, work: Work) -> Work:
        """The work with its model directory built, and with what is right where only the model itself can say."""
        model = self._model(work)
        if not model.exists():
            work.build(model)
            if work.needs:
                requirements.install(list(work.needs), model)
        return work if work.expected else dataclasses.replace(work, expected=computed(work, model))

    def measure(self, number: int, work: Work, contenders: list[Contender]) -> None:
        for contender in contenders:
            if contender.can(work) and not self._is_hopeless(contender.name, work.name):
                try:
                    self._one(number, work, contender)
                except (Failed, subprocess.CalledProcessError, RuntimeError, OSError) as error:
                    self._failures.setdefault(contender.name, {})[work.name] = str(error)[:3000]
                    told = f"!!! {contender.name} CANNOT BE MEASURED: {work.name}: {error}"
                    print(told[:3000], file=sys.stderr, flush=True)

    def _is_hopeless(self, name: str, work: str) -> bool:
        """Whether it failed at this work before, or at another without ever having answered anything."""
        failed = self._failures.get(name, {})
        return work in failed or (bool(failed) and all(row["server"] != name for row in self._rows))

    def steady(self, seconds: float) -> None:
        """Our server under the same load for a long time: memory at intervals, and the rate at both ends."""
        ours = next(each for each in CONTENDERS if each.name == "ours")
        work = self.prepared(all_work()[0])
        samples: list[tuple[float, float, float]] = []
        with self._server(ours, work) as (server, port):
            began = time.monotonic()
            while time.monotonic() - began < seconds:
                figures = load.run(ours.wire, port, work, 8, min(10.0, seconds), self._folder)
                samples.append((round(time.monotonic() - began, 1), round(server.memory(), 1), round(figures.rate)))
                print(f"steady: {samples[-1]}", flush=True)
        self.result["steady"] = {"seconds": seconds, "samples": samples}

    def _one(self, number: int, work: Work, contender: Contender) -> None:
        with self._server(contender, work) as (server, port):
            start = server.first_answer
            time.sleep(0.5)
            idle = server.memory()
            for concurrency in work.concurrency:
                before = server.cpu()
                figures = load.run(contender.wire, port, work, concurrency, self._seconds, self._folder)
                row = {
                    "round": number, "server": contender.name, "work": work.name, "concurrency": concurrency,
                    **dataclasses.asdict(figures), "cpu": (server.cpu() - before) / max(1, figures.calls),
                    "start": start, "idle": idle, "peak": server.peak(),
                }  # fmt: skip
                self._rows.append(row)
                print(report.line(row), flush=True)

    def _server(self, contender: Contender, work: Work) -> _Running:
        return _Running(contender, work, self._model(work), self._folder)

    def _model(self, work: Work) -> Path:
        return self._folder / f"model-{work.name.replace(' ', '-')}"


class _Running:
    """A contender that serves: `with … as (server, port)`."""

    def __init__(self, contender: Contender, work: Work, model: Path, folder: Path) -> None:
        self._place = Path(tempfile.mkdtemp(dir=folder))
        self._contender, self._work, self._model = contender, work, model

    def __enter__(self) -> tuple[Server, int]:
        port = free_port()
        command, environment = self._contender.start(self._work, self._model, port, self._place)
        asker = Asker(self._contender.wire, port, self._work)
        self._server = Server(command, environment, self._place)
        try:
            self._server.first_answer = self._server.wait(asker.is_right)
        except BaseException:
            self._server.__exit__(None, None, None)
            raise
        finally:
            asker.close()
        return self._server, port

    def __exit__(self, *exception: Any) -> None:
        self._server.__exit__(None, None, None)


if __name__ == "__main__":
    sys.exit(main())
