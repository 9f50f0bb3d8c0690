"""Nothing that a model starts outlives it, in whatever session it hides, and whatever ends the model or the server."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from serving import Program, model_directory

from model_runtime import tensors

PROMISE = {
    "name": "act",
    "inputs": {"what": {"shape": "scalar", "type": "string"}},
    "outputs": {"y": {"shape": [-1], "type": "int64"}},
}
# Children of every kind, of which all but the first leave the model's process group.
CODE = """
import os, subprocess, sys, time

def act(what):
    if what:
        return {"y": globals()[str(what)]()}
    return {"y": [os.getpid(), os.getppid()]}

def starts():
    subprocess.Popen(["sleep", "3601"])
    subprocess.Popen(["sleep", "3602"], start_new_session=True)
    subprocess.Popen(["sh", "-c", "(setsid sh -c 'trap \\"\\" TERM HUP; sleep 3603; sleep 3604' &) ; exit 0"]).wait()
    if os.fork() == 0:  # a daemon, as the book has it
        os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "3605"])
        os._exit(0)
    deaf = "import signal, time; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64)); time.sleep(3606)"
    subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True)
    time.sleep(0.5)
    return [os.getpid(), os.getppid()]

def starts_a_storm():
    program = "while true; do setsid sleep 3607 & setsid sh -c 'sleep 3607 & sleep 3607' & sleep 0.01; done"
    subprocess.Popen(["setsid", "sh", "-c", program])
    time.sleep(0.5)
    return [os.getpid(), os.getppid()]

def exits(): os._exit(3)
def leaves_zombies():
    for _ in range(20):
        subprocess.Popen(["sh", "-c", "sleep 0.05 & exit 0"]).wait()
    time.sleep(0.5)
    return [os.getpid(), os.getppid()]
"""


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one that has just ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found |= {child} | descendants(child)
    return found


def sleepers() -> list[int]:
    """What the models of these tests start, wherever it is."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if re.search(rb"\b360[1-7]\b", file.read_bytes()):
                found.append(int(file.parent.name))
    return found


def gone(pids: set[int], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not [pid for pid in pids if is_running(pid)] and not sleepers():
            return True
        time.sleep(0.02)
    return False


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def ask(program: Program, what: str) -> list[int]:
    with program.client() as client:
        return [int(value) for value in client.predict({"what": tensors.tensor(what)})["y"]]


def stop(program: Program, _model: int, _guardian: int) -> None:
    program.terminate()


def kill_server(program: Program, _model: int, _guardian: int) -> None:
    os.kill(program.process.pid, signal.SIGKILL)


def kill_model(_program: Program, model: int, _guardian: int) -> None:
    os.kill(model, signal.SIGKILL)


def terminate_guardian(_program: Program, _model: int, guardian: int) -> None:
    os.kill(guardian, signal.SIGTERM)


def crash(program: Program, _model: int, _guardian: int) -> None:
    with pytest.raises(grpc.RpcError):
        ask(program, "exits")


ENDS = [stop, kill_server, kill_model, terminate_guardian, crash]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
@pytest.mark.parametrize("what", ["starts", "starts_a_storm"])
def test_no_descendant_outlives_the_model(tmp_path: Path, end: Callable[[Program, int, int], None], what: str) -> None:
    with Program(model_directory(tmp_path, CODE, PROMISE), WARMUP="false", BATCH_MAX_SIZE="1") as program:
        program.wait_serving()
        model, guardian = ask(program, what)
        family = descendants(guardian)
        started = len(sleepers())
        end(program, model, guardian)
        all_gone = gone(family)

    assert started >= 5
    assert model in family
    assert all_gone, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in sleepers()]


def test_a_model_whose_guardian_is_killed_is_killed_by_the_kernel_and_started_again(tmp_path: Path) -> None:
    with Program(model_directory(tmp_path, CODE, PROMISE), WARMUP="false", BATCH_MAX_SIZE="1") as program:
        program.wait_serving()
        model, guardian = ask(program, "")
        os.kill(guardian, signal.SIGKILL)
        was_gone = gone({model, guardian})
        program.wait_serving()
        other, _ = ask(program, "")

    assert was_gone
    assert other != model


def test_a_model_that_stops_its_guardian_is_ended_all_the_same(tmp_path: Path) -> None:
    with Program(model_directory(tmp_path, CODE, PROMISE), WARMUP="false", BATCH_MAX_SIZE="1") as program:
        program.wait_serving()
        model, guardian = ask(program, "")
        os.kill(guardian, signal.SIGSTOP)
        started = time.monotonic()
        program.terminate()
        status, _ = program.end(40)

    assert status == 0
    assert time.monotonic() - started < 25
    assert gone({model, guardian})


def test_what_loses_its_parent_below_a_model_is_reaped(tmp_path: Path) -> None:
    with Program(model_directory(tmp_path, CODE, PROMISE), WARMUP="false", BATCH_MAX_SIZE="1") as program:
        program.wait_serving()
        _, guardian = ask(program, "leaves_zombies")
        left = descendants(program.process.pid)
        exit_status = program.process.poll()

    assert exit_status is None
    assert len(left) == 2, "the guardian and the model"
    assert guardian in left
