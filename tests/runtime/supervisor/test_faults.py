"""Everything a model can do to the process it runs in, done to a live server under load.

The call that does it gets the right code at once; the others are answered, rightly or with a clear error that may be tried again;
health tells the truth; nothing is left behind.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from serving import model_directory

from model_runtime import RuntimeManager, tensors
from model_runtime.client import Client
from model_runtime.settings import Settings

PROMISE = {
    "name": "act",
    "inputs": {"fault": {"shape": "scalar", "type": "string"}, "x": {"shape": "scalar", "type": "int64"}},
    "outputs": {"y": {"shape": "scalar", "type": "int64"}},
}
CODE = """
import ctypes, os, signal, subprocess, sys, threading, time

def act(fault, x):
    if fault:
        globals()[str(fault)]()
    return {"y": x + 1}

def exits(): os._exit(7)
def calls_sys_exit(): sys.exit(3)
def is_killed(): os.kill(os.getpid(), signal.SIGKILL)
def segfaults(): ctypes.string_at(0)
def aborts(): os.abort()
def hangs():
    while True: pass
def sleeps(): time.sleep(3600)
def hangs_with_the_lock(): ctypes.PyDLL(None).sleep(3600)
def raises(): raise RuntimeError("as asked")
def recurses(): recurses()
def closes_stdio():
    for descriptor in (0, 1, 2): os.close(descriptor)
def closes_everything(): os.closerange(3, 4096)
def forks_and_returns_twice(): os.fork()
def forks_a_child_that_stays():
    if os.fork() == 0: time.sleep(3600)
def leaves_a_program_and_exits():
    subprocess.Popen(["sleep", "3725"])
    os._exit(1)
def starts_threads():
    for _ in range(20): threading.Thread(target=time.sleep, args=(1,), daemon=True).start()
def writes_enormously():
    for _ in range(200): print("x" * 50_000)
    sys.stdout.flush()
def writes_without_end_of_line():
    os.write(2, b"y" * 5_000_000)
def changes_directory(): os.chdir("/")
def ignores_signals(): signal.signal(signal.SIGTERM, signal.SIG_IGN)
"""
# What the call itself hears.
FAULTS = {
    "exits": (grpc.StatusCode.INTERNAL, "ended with exit status 7 while it was answering"),
    "calls_sys_exit": (grpc.StatusCode.INTERNAL, "SystemExit: 3"),
    "is_killed": (grpc.StatusCode.INTERNAL, "died of signal 9 (SIGKILL, perhaps for want of memory)"),
    "segfaults": (grpc.StatusCode.INTERNAL, "died of signal 11 (SIGSEGV)"),
    "aborts": (grpc.StatusCode.INTERNAL, "died of signal 6 (SIGABRT)"),
    "hangs": (grpc.StatusCode.INTERNAL, "did not answer within 1.5 s (MODEL_TIMEOUT)"),
    "sleeps": (grpc.StatusCode.INTERNAL, "did not answer within 1.5 s (MODEL_TIMEOUT)"),
    "hangs_with_the_lock": (grpc.StatusCode.INTERNAL, "did not answer within 1.5 s (MODEL_TIMEOUT)"),
    "raises": (grpc.StatusCode.INTERNAL, "RuntimeError: as asked"),
    "recurses": (grpc.StatusCode.INTERNAL, "RecursionError"),
    "closes_stdio": (None, ""),
    "closes_everything": (grpc.StatusCode.INTERNAL, "the model process "),
    "forks_and_returns_twice": (None, ""),
    "forks_a_child_that_stays": (None, ""),
    "leaves_a_program_and_exits": (grpc.StatusCode.INTERNAL, "ended with exit status 1"),
    "starts_threads": (None, ""),
    "writes_enormously": (None, ""),
    "writes_without_end_of_line": (None, ""),
    "changes_directory": (None, ""),
    "ignores_signals": (None, ""),
}
RETRIABLE = {grpc.StatusCode.UNAVAILABLE}
SETTINGS: dict[str, Any] = {"warmup": False, "model_timeout": 1.5, "model_processes": 2}


def inputs(fault: str, x: int) -> dict[str, Any]:
    return {"fault": tensors.tensor(fault), "x": tensors.tensor(x)}


@contextmanager
def running(folder: Path, **settings: Any) -> Iterator[tuple[RuntimeManager, Client]]:
    chosen = Settings(**{**SETTINGS, **settings})
    with RuntimeManager(model_directory(folder, CODE, PROMISE), 0, settings=chosen) as runtime:
        runtime.wait_loaded(20)
        with Client(f"localhost:{runtime.port}", timeout=20) as client:
            yield runtime, client


@contextmanager
def load(client: Client, threads: int = 4) -> Iterator[Counter[str]]:
    """Harmless calls from some threads, as fast as they go. Counts how they ended; a wrong answer is one of the ends."""
    ends: Counter[str] = Counter()
    slowest = [0.0]
    done = threading.Event()

    def call(number: int) -> None:
        x = number
        while not done.is_set():
            x += threads
            started = time.monotonic()
            try:
                ends["right" if int(client.predict(inputs("", x))["y"]) == x + 1 else "WRONG"] += 1
            except grpc.RpcError as error:
                ends[error.code().name] += 1
                time.sleep(0.002)
            slowest[0] = max(slowest[0], time.monotonic() - started)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(threads)]
    for caller in callers:
        caller.start()
    try:
        yield ends
    finally:
        done.set()
        for caller in callers:
            caller.join()
        ends["slowest ms"] = round(slowest[0] * 1000)


def await_more(ends: Counter[str], count: int) -> None:
    """Until the load has so many more right answers: the neighbours are served on."""
    wanted, end = ends["right"] + count, time.monotonic() + 20
    while ends["right"] < wanted:
        assert time.monotonic() < end, ends
        time.sleep(0.02)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_nobody_else_anything(tmp_path: Path, fault: str) -> None:
    expected, words = FAULTS[fault]
    with running(tmp_path) as (_runtime, client):
        with load(client) as ends:
            time.sleep(0.1)
            started = time.monotonic()
            code, text = outcome(client, fault)
            seconds = time.monotonic() - started
            await_more(ends, 20)
        after = int(eventually(client, 41))

    assert code == expected, text
    assert words in text
    assert seconds < 5.0, "the call hears at once, not at its own deadline of 20 s"
    assert after == 42
    assert ends["WRONG"] == 0
    assert set(ends) <= {"right", "UNAVAILABLE", "INTERNAL", "slowest ms"}, ends
    assert ends["INTERNAL"] == 0, "a call that the model had not begun is given to another process"
    assert ends["slowest ms"] < 5000


def outcome(client: Client, fault: str) -> tuple[grpc.StatusCode | None, str]:
    try:
        client.predict(inputs(fault, 1), timeout=10)
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    return None, ""


def eventually(client: Client, x: int, timeout: float = 10.0) -> Any:
    """The answer, once a process can give it."""
    end = time.monotonic() + timeout
    while True:
        try:
            return client.predict(inputs("", x))["y"]
        except grpc.RpcError as error:
            if error.code() not in RETRIABLE or time.monotonic() > end:
                raise
            time.sleep(0.02)


def test_while_no_process_can_answer_health_says_so_and_calls_fail_at_once(tmp_path: Path) -> None:
    with running(tmp_path, model_processes=1) as (runtime, client):
        seen = [client.health("readiness")]
        outcome(client, "is_killed")
        started = time.monotonic()
        code, text = outcome(client, "")
        seconds = time.monotonic() - started
        seen.append(client.health("readiness"))
        alive = client.health("")
        runtime.wait_loaded(10)
        seen.append(client.health("readiness"))

    assert seen == ["SERVING", "NOT_SERVING", "SERVING"]
    assert alive == "SERVING"
    assert (code, seconds < 5.0) == (grpc.StatusCode.UNAVAILABLE, True)
    assert "died of signal 9" in text


def test_the_last_words_of_a_process_are_told(tmp_path: Path) -> None:
    code = (
        "import os, sys\n\ndef echo():\n    print('the disk is full', file=sys.stderr, flush=True)\n    os._exit(9)\n"
    )
    promise = {"name": "echo", "inputs": {}, "outputs": {"y": {"type": "int64"}}}
    with RuntimeManager(model_directory(tmp_path, code, promise), 0, settings=Settings(warmup=False)) as runtime:
        runtime.wait_loaded(10)
        with Client(f"localhost:{runtime.port}") as client, pytest.raises(grpc.RpcError) as failure:
            client.predict({})

    assert failure.value.details() == (
        "the model process ended with exit status 9 while it was answering; last words: the disk is full"
    )


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def children(pid: int | None = None) -> set[int]:
    """The children of a process, or of this one."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid or 'self'}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            found |= set(map(int, (task / "children").read_text().split()))
    return found


def test_a_stopped_runtime_leaves_no_process_thread_or_descriptor(tmp_path: Path) -> None:
    with running(tmp_path / "first") as (_, client):  # what is made once stays
        eventually(client, 1)
    before = children(), threading.active_count(), open_descriptors()
    for number in range(3):
        with running(tmp_path / str(number)) as (_, client):
            outcome(client, "forks_a_child_that_stays")
            outcome(client, "leaves_a_program_and_exits")
            eventually(client, 1)

    end = time.monotonic() + 5
    while threading.active_count() > before[1] and time.monotonic() < end:
        time.sleep(0.05)
    assert children() == before[0]
    assert threading.active_count() <= before[1] + 1
    assert open_descriptors() <= before[2] + 2
    assert programs_named("sleep 3725") == []


def programs_named(command: str) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_bytes().replace(b"\0", b" ").strip() == command.encode():
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_thousand_faults_leave_nothing_behind(tmp_path: Path) -> None:
    kinds = [
        fault
        for fault, (code, _) in FAULTS.items()
        if fault not in ("hangs", "sleeps", "hangs_with_the_lock", "writes_enormously")
    ]
    with running(tmp_path) as (runtime, client):
        for fault in kinds:  # what is made once stays
            outcome(client, fault)
        runtime.wait_loaded(10)
        before = threading.active_count(), open_descriptors(), resident_mib()
        with load(client, 2) as ends:
            for number in range(1000):
                outcome(client, kinds[number % len(kinds)])
                while runtime.state.phase.value != "serving":
                    time.sleep(0.01)
        time.sleep(1)
        eventually(client, 1)
        after = threading.active_count(), open_descriptors(), resident_mib()
        processes = len(children())

    print(f"\n1,000 faults; neighbours: {dict(ends)}; threads, descriptors, MiB: {before} -> {after}")
    assert ends["WRONG"] == 0
    assert after[0] <= before[0] + 1
    assert after[1] <= before[1] + 4
    assert after[2] <= before[2] + 20
    assert processes == 2  # the guardians of two model processes


def resident_mib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") >> 20


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_hundred_thousand_requests_while_the_model_is_killed_every_second(tmp_path: Path) -> None:
    total, callers = 200_000, 8
    ends: Counter[str] = Counter()
    slow: list[float] = []
    left = iter(range(total))
    done = threading.Event()
    with running(tmp_path, model_timeout=5.0) as (_, client):

        def call() -> None:
            for x in left:
                started = time.monotonic()
                try:
                    answer = client.predict(inputs("", x), timeout=10)
                    ends["right" if int(answer["y"]) == x + 1 else "WRONG"] += 1
                except grpc.RpcError as error:
                    ends[error.code().name] += 1
                    time.sleep(0.001)
                if (seconds := time.monotonic() - started) > 1.0:
                    slow.append(seconds)

        def kill() -> None:
            while not done.wait(1.0):
                for pid in sorted(model for guardian in children() for model in children(guardian))[:1]:
                    os.kill(pid, 9)
                    ends["kills"] += 1

        threads = [threading.Thread(target=call) for _ in range(callers)]
        killer = threading.Thread(target=kill)
        for thread in (*threads, killer):
            thread.start()
        for thread in threads:
            thread.join()
        done.set()
        killer.join()

    print(f"\n200,000 requests: {dict(ends)}, slower than 1 s: {len(slow)}, slowest {max(slow, default=0):.2f} s")
    assert sum(count for end, count in ends.items() if end != "kills") == total
    assert ends["WRONG"] == 0
    assert set(ends) <= {"right", "UNAVAILABLE", "INTERNAL", "kills"}
    assert slow == []
    assert ends["kills"] > 10
