"""`make account`: where our own server's time goes, beside the lean baseline, in one run on one machine. Writes ACCOUNT.md.

The server (all its processes) is pinned to one core and the load to another. CPU is what the server's processes used, read from
/proc before and after; ratios count, absolute figures move with the machine.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from model_runtime import contract, requirements, tensors
from model_runtime.client import Client
from model_runtime.contract import DataType
from model_runtime.prediction import validate

HERE = Path(__file__).parent
IDENTITY = "def predict(x):\n    return {'y': x}\n"
REGRESSION = """
import numpy as np
from sklearn.linear_model import LogisticRegression
random = np.random.RandomState(1)
MODEL = LogisticRegression().fit(random.rand(500, 10), random.randint(0, 3, 500))

def predict(x):
    return {"y": MODEL.predict_proba(x)}
"""
BUSY = """
import time

def predict(x):
    end = time.process_time() + 0.002
    while time.process_time() < end:
        pass
    return {"y": x}
"""
SKLEARN = "scikit-learn==1.7.2"
LEAN, BARE, OURS = "lean", "bare", "ours"


class Run(NamedTuple):
    """One server under one load."""

    rate: float  # answers a second
    p50: float  # seconds
    cpu: float  # seconds a call, all processes of the server
    wakes: float  # how often a thread of the server slept and was woken, a call


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="account-") as folder:
        lines = list(_report(Path(folder)))
    (HERE / "ACCOUNT.md").write_text("\n".join(lines) + "\n" + (HERE / "account-notes.md").read_text())
    print("\n".join(lines))


def _report(folder: Path) -> Iterator[str]:
    yield "# Where the time goes\n"
    yield f"Made by `make account` on {_machine()}; revision {_revision()}. Ratios are to lean (`bench/peers/lean.py`).\n"
    small = _model(folder / "small", IDENTITY, "float32", [-1, 4])
    request = _request(folder, np.arange(4, dtype="f4").reshape(1, 4))
    yield "## Identity, one tensor of four floats\n"
    yield from _compared(small, request, [1, 8, 64], 6000)
    yield ""
    yield from _system_calls(small, request)
    yield "\n## scikit-learn logistic regression, one row of ten\n"
    regression = _model(folder / "regression", REGRESSION, "double", [-1, 10], outputs=[-1, 3])
    requirements.install([SKLEARN], regression)
    yield from _compared(regression, _request(folder, np.random.rand(1, 10)), [1, 64], 6000)
    yield "\n## Large tensors of typed floats, one call at a time\n"
    flat = _model(folder / "flat", IDENTITY, "float32", [-1])
    yield from _large(folder, flat)
    yield "\n## Start, memory, processes\n"
    yield from _rest(folder, small)


def _compared(model: Path, request: Path, concurrencies: list[int], count: int) -> Iterator[str]:
    yield "| calls at a time | server | answers/s | p50 ms | CPU µs a call | CPU against lean | wake-ups a call |"
    yield "|---|---|---|---|---|---|---|"
    for concurrency in concurrencies:
        lean = _measured(LEAN, model, request, concurrency, count)
        yield _row(concurrency, "lean", lean, lean)
        yield _row(concurrency, "grpcio alone", _measured(BARE, model, request, concurrency, count), lean)
        for label, environment in (
            ("isolated", {}),
            ("isolated, batching", {"BATCH_MAX_SIZE": "64"}),
            ("in process", {"MODEL_ISOLATION": "none"}),
        ):
            yield _row(concurrency, label, _measured(OURS, model, request, concurrency, count, **environment), lean)


def _row(concurrency: object, label: str, run: Run, lean: Run) -> str:
    figures = (
        f"{run.rate:,.0f} | {run.p50 * 1e3:.2f} | {run.cpu * 1e6:,.0f} | {run.cpu / lean.cpu:.2f} | {run.wakes:.1f}"
    )
    return f"| {concurrency} | {label} | {figures} |"


def _large(folder: Path, model: Path) -> Iterator[str]:
    yield "| size | server | p50 ms | CPU ms a call | CPU against lean |\n|---|---|---|---|---|"
    for mib, count in ((4, 40), (64, 4)):
        request = _request(folder, np.random.rand(mib << 18).astype("f4"))
        lean = _measured(LEAN, model, request, 1, count)
        for label, run in (("lean", lean), ("isolated", _measured(OURS, model, request, 1, count))):
            yield f"| {mib} MiB | {label} | {run.p50 * 1e3:.0f} | {run.cpu * 1e3:.1f} | {run.cpu / lean.cpu:.2f} |"


def _rest(folder: Path, model: Path) -> Iterator[str]:
    starts = [_start_seconds(model) for _ in range(5)]
    with _server(OURS, model) as (process, _):
        time.sleep(1.0)  # what the start needed is given back
        server, *others = [_resident_mib(pid) for pid in _family(process.pid)]
    bare = _bare_numpy_mib()
    yield f"* Start of the program to SERVING, numpy-only model, with warm-up: {statistics.median(starts):.2f} s"
    yield f"* Idle resident memory: server {server:.0f} MiB; model process {max(others):.0f} MiB, numpy alone {bare:.0f} MiB"
    yield f"* Validation of ten numeric fields: {_validation_us():.1f} µs"
    busy = _model(folder / "busy", BUSY, "float32", [-1, 4])
    request = _request(folder, np.zeros((1, 4), "f4"))
    rates = {n: _measured(OURS, busy, request, 16, 800, pinned=False, MODEL_PROCESSES=str(n)).rate for n in (1, 2, 4)}
    told = ", ".join(f"{n}: {rate:.0f}/s" for n, rate in rates.items())
    yield f"* A model that computes for 2 ms, by number of model processes on {os.cpu_count()} cores that the load shares: {told}"


# Measuring ------------------------------------------------------------------------------------------------------------


def _measured(
    kind: str, model: Path, request: Path, concurrency: int, count: int, *, pinned: bool = True, **environment: str
) -> Run:
    with _server(kind, model, pinned=pinned, **environment) as (process, port):
        _drive(port, request, concurrency, max(2, count // 10), pinned)
        before, slept = _cpu_seconds(process.pid), _wake_ups(process.pid)
        found = _drive(port, request, concurrency, count, pinned)
        cpu, wakes = _cpu_seconds(process.pid) - before, _wake_ups(process.pid) - slept
    if found["wrong"]:
        raise SystemExit(f"{kind} gave {found['wrong']} wrong answers: its figures mean nothing")
    return Run(found["rate"], found["p50"], cpu / count, wakes / count)


@contextmanager
def _server(
    kind: str, model: Path, *, pinned: bool = True, **environment: str
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = _free_port()
    ours = [sys.executable, "-m", "model_runtime"]
    command = ours if kind == OURS else [sys.executable, str(HERE / "peers" / f"{kind}.py"), str(model), str(port)]
    variables = {
        **os.environ,
        "MODEL_DIR": str(model),
        "APP_PORT": str(port),
        "DRAIN_DELAY_SECONDS": "0",
        **environment,
    }
    process = subprocess.Popen(_on_core(0, pinned) + command, env=variables, stderr=subprocess.DEVNULL)
    try:
        _wait_ready(port)
        yield process, port
    finally:
        process.terminate()
        process.wait(20)


def _on_core(core: int, pinned: bool) -> list[str]:
    return ["taskset", "-c", str(core)] if pinned and (os.cpu_count() or 1) > 1 else []


def _drive(port: int, request: Path, concurrency: int, count: int, pinned: bool) -> dict[str, float]:
    command = [sys.executable, str(HERE / "driver.py"), f"127.0.0.1:{port}", str(request), str(concurrency), str(count)]
    done = subprocess.run(_on_core(1, pinned) + command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def _wait_ready(port: int) -> None:
    end = time.monotonic() + 60
    while not _listens(port) and time.monotonic() < end:  # a gRPC channel that came too early would wait for a second
        time.sleep(0.005)
    with Client(f"127.0.0.1:{port}", timeout=1.0) as client:
        while time.monotonic() < end:
            if client.health("readiness") == "SERVING":
                return
            time.sleep(0.005)
    raise SystemExit("the server did not become ready")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _start_seconds(model: Path) -> float:
    started = time.monotonic()
    with _server(OURS, model, pinned=False):
        return time.monotonic() - started


def _family(pid: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += map(int, (task / "children").read_text().split())
    return [pid, *(member for child in children for member in _family(child))]


def _cpu_seconds(pid: int) -> float:
    ticks = 0
    for member in _family(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _wake_ups(pid: int) -> int:
    """How often the threads of the server have slept of their own will."""
    statuses = (task / "status" for member in _family(pid) for task in Path(f"/proc/{member}/task").iterdir())
    lines = (line for status in statuses for line in status.read_text().splitlines())
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def _system_calls(model: Path, request: Path) -> Iterator[str]:
    """What the kernel is asked for in a call, counted by strace (which slows everything: these runs are not timed)."""
    if shutil.which("strace") is None:
        yield "!!! System calls were not counted: strace is not on this machine (`apt-get install strace`)."
        return
    yield "| calls at a time | server | system calls a call | the most frequent |\n|---|---|---|---|"
    for concurrency in (1, 64):
        for kind in (LEAN, OURS):
            with _server(kind, model) as (process, port):
                _drive(port, request, concurrency, 200, True)
                counts = _traced(process.pid, lambda port=port, c=concurrency: _drive(port, request, c, 2000, True))
            most = ", ".join(f"{name} {count / 2000:.1f}" for name, count in counts.most_common(5))
            yield f"| {concurrency} | {kind} | {sum(counts.values()) / 2000:.1f} | {most} |"


def _traced(pid: int, load: Callable[[], object]) -> Counter[str]:
    members = [option for member in _family(pid) for option in ("-p", str(member))]
    with tempfile.NamedTemporaryFile() as told:
        command = ["strace", "-f", "-c", "-U", "calls,name", "-o", told.name, *members]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as tracer:
            time.sleep(1)
            load()
            tracer.send_signal(signal.SIGINT)
        rows = (line.split() for line in Path(told.name).read_text().splitlines())
        return Counter(
            {row[1]: int(row[0]) for row in rows if len(row) == 2 and row[0].isdigit() and row[1] != "total"}
        )


def _resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / (1 << 20)


def _bare_numpy_mib() -> float:
    code = (
        "import os, numpy; print(int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGESIZE') / 2**20)"
    )
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def _validation_us() -> float:
    fields = {f"f{number}": {"shape": [-1], "type": "double"} for number in range(10)}
    signature = contract.parse({"inputs": fields, "outputs": {"y": {"type": "double"}}}).signatures[0]
    sent = {name: tensors.tensor(np.array([1.0])) for name in fields}
    rounds = 20_000
    started = time.perf_counter()
    for _ in range(rounds):
        validate(signature, sent)
    return (time.perf_counter() - started) / rounds * 1e6


# Material ---------------------------------------------------------------------------------------------------------------


def _model(path: Path, code: str, dtype: str, shape: list[int], outputs: list[int] | None = None) -> Path:
    source = path / "files" / "src"
    source.mkdir(parents=True)
    (source / "func_main.py").write_text(code)
    promise = {
        "inputs": {"x": {"shape": shape, "type": dtype}},
        "outputs": {"y": {"shape": outputs or shape, "type": dtype}},
    }
    (path / contract.CONTRACT_FILE).write_bytes(contract.write(contract.parse(promise)))
    return path


def _request(folder: Path, array: np.ndarray) -> Path:
    dtype = DataType.DOUBLE if array.dtype == np.float64 else DataType.FLOAT
    file = folder / f"{time.monotonic_ns()}.bin"
    file.write_bytes(tensors.encode_request(tensors.ERAS["v2"], tensors.Request({"x": tensors.tensor(array, dtype)})))
    return file


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _machine() -> str:
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("grpcio", "protobuf", "numpy"))
    versions = f"Python {platform.python_version()}, {packages}"
    return f"{os.cpu_count()} cores, {platform.system()} {platform.release().partition('-')[0]}, {versions}"


def _revision() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE, check=False
    )
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
