"""The fuzz loop: grammar-made inputs and mutations of them, differential against protobuf, seeded and replayable.

python tests/fuzz/run.py --target v2 --time 60        fuzz (see `make fuzz`)
python tests/fuzz/run.py --target v2 --replay FILE    run one saved input again
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from random import Random

import grammar
from targets import TARGETS, Target

_CORPUS = 512  # inputs kept to mutate
_FRESH = 0.2  # the share of inputs made by the grammar alone
_REPORT_SECONDS = 5.0
_SLOW_SECONDS = 2.0  # for one input of some hundred bytes
_GROWTH_MIB = 64.0  # resident memory that may be added after the first tenth of the time
_ADDRESS_SPACE = 4 << 30  # a hostile length that is allocated ends in a MemoryError, not in swapping


class Failure(Exception):
    """An input that broke a target: how, and how to run it again."""


def main() -> int:
    options = _options()
    names = [options.target] if options.target else list(TARGETS)
    if options.replay:
        TARGETS[names[0]].run(options.replay.read_bytes())
        print(f"{names[0]}: {options.replay} passes")
        return 0
    seed = options.seed if options.seed is not None else int(time.time())
    jobs = min(options.jobs, len(names))
    print(f"seed {seed}, {jobs} at a time: {', '.join(names)}", flush=True)
    work = [(name, seed, options.time * jobs / len(names), options.runs) for name in names]
    try:
        with multiprocessing.Pool(jobs, maxtasksperchild=1) as pool:
            for _ in pool.imap_unordered(_fuzz_alone, work, chunksize=1):
                pass
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


def _fuzz_alone(work: tuple[str, int, float, int]) -> None:
    name, seed, seconds, runs = work
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    fuzz(name, TARGETS[name], Random(f"{seed} {name}"), seconds, runs)


def fuzz(name: str, target: Target, rng: Random, seconds: float, runs: int) -> None:
    """Run inputs until the time or the number is over. Raises Failure, having saved the input."""
    start = last = time.monotonic()
    corpus = [grammar.message(rng, root) for root in target.grammar for _ in range(_CORPUS // len(target.grammar))]
    count, settled = 0, 0.0
    while count < runs:
        for _ in range(100):
            _run_one(name, target, _next(rng, target, corpus))
        count += 100
        now = time.monotonic()
        if not settled and (now - start > seconds / 10 or count * 10 > runs):
            settled = _resident_mib()
        if now - last > _REPORT_SECONDS or now - start > seconds:
            print(f"{name}: {count:,} inputs, {count / (now - start):,.0f}/s, {_resident_mib():.0f} MiB", flush=True)
            last = now
        if now - start > seconds:
            break
    growth = _resident_mib() - settled
    if settled and growth > _GROWTH_MIB:
        raise Failure(f"{name}: resident memory grew by {growth:.0f} MiB over {count:,} inputs")
    print(f"{name}: done, {count:,} inputs, none broke it; resident memory grew by {growth:.1f} MiB", flush=True)


def _next(rng: Random, target: Target, corpus: list[bytes]) -> bytes:
    at = rng.randrange(len(corpus))
    if rng.random() < _FRESH:
        corpus[at] = grammar.message(rng, rng.choice(target.grammar))
        return corpus[at]
    data = grammar.mutate(rng, corpus[at])
    if rng.random() < 0.05 and len(data) < 2000:
        corpus[at] = data  # so that changes add up
    return data


def _run_one(name: str, target: Target, data: bytes) -> None:
    start = time.monotonic()
    try:
        target.run(data)
    except Exception as error:  # noqa: BLE001 - whatever breaks a target is what we look for
        raise Failure(_saved(name, data, error)) from None
    if time.monotonic() - start > _SLOW_SECONDS:
        start = time.monotonic()
        target.run(data)  # a busy machine stops any process now and then: only what is slow twice is slow
        if time.monotonic() - start > _SLOW_SECONDS:
            raise Failure(_saved(name, data, TimeoutError(f"more than {_SLOW_SECONDS} s for {len(data)} bytes")))


def _saved(name: str, data: bytes, error: Exception) -> str:
    path = Path(".fuzz") / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    trace = "".join(traceback.format_exception(error))
    return f"{trace}\n{name}: broken by {len(data)} bytes {data[:200].hex()}\nreplay: make fuzz TARGET={name} REPLAY={path}"


def _resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / (1 << 20)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=TARGETS, help="one target (default: all, the time shared)")
    parser.add_argument("--time", type=float, default=300.0, help="seconds in all (default 300)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="targets at a time (default: the cores)")
    parser.add_argument("--runs", type=int, default=1 << 62, help="at most so many inputs for each target")
    parser.add_argument("--seed", type=int, help="default: the clock")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run the target on one saved input")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
