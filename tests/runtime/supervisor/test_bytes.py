"""What requests may weigh together holds in every state, those of callers that have given up included."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from serving import Program, model_directory

from model_runtime import tensors
from model_runtime.model.channel import ANSWER, CALL, CANCEL, DROPPED, Channel, Frame
from model_runtime.supervisor import replies
from model_runtime.supervisor.calls import Calls, Gone

MIB = 1 << 20
BUSY = "import time\n\ndef echo(x):\n    time.sleep(60)\n    return {'y': x}\n"
STATED_MIB = 192  # beyond MAX_QUEUE_BYTES: what grpcio receives, and what malloc keeps of it


def resident_mib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") // MIB


@pytest.mark.parametrize("reads", [True, False])
def test_impatient_retries_against_a_busy_model_stay_within_the_limit(tmp_path: Path, reads: bool) -> None:
    code = BUSY if reads else "import os, signal\n\ndef echo(x):\n    os.kill(os.getpid(), signal.SIGSTOP)\n"
    request = tensors.encode_request(tensors.ERAS["v2"], tensors.Request({"x": tensors.tensor(np.zeros(6 * MIB // 8))}))
    environment = {"WARMUP": "false", "BATCH_MAX_SIZE": "1", "MAX_QUEUE": "10", "MAX_QUEUE_BYTES": str(64 * MIB)}
    with Program(model_directory(tmp_path, code), **environment) as program:
        program.wait_serving()
        with program.client() as client:
            predict = client.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            before = peak = resident_mib(program.process.pid)
            end, sent = time.monotonic() + 8, 0
            done = threading.Event()

            def retry() -> None:
                nonlocal sent
                while not done.is_set():
                    with contextlib.suppress(grpc.RpcError):
                        predict(request, timeout=0.2)
                    sent += 1

            callers = [threading.Thread(target=retry) for _ in range(8)]
            for caller in callers:
                caller.start()
            while time.monotonic() < end:
                peak = max(peak, resident_mib(program.process.pid))
                time.sleep(0.05)
            done.set()
            for caller in callers:
                caller.join()
            alive = client.health("")

    print(f"\n{sent} calls of 6 MiB: {before} -> at most {peak} MiB")
    assert sent > 100
    assert peak - before < 64 + STATED_MIB
    assert alive == "SERVING"


# The queue itself -----------------------------------------------------------------------------------------------------


class Caller:
    """Somebody who makes a call and may give it up."""

    def __init__(self, calls: Calls, request: bytes) -> None:
        self.ends: list[Any] = []
        calls.submit(0, request, 0.0, self._take, self.ends.append)

    def _take(self, cancel: Any) -> bool:
        self.cancel = cancel
        return True

    def wait(self) -> Any:
        end = time.monotonic() + 5
        while not self.ends:
            assert time.monotonic() < end
            time.sleep(0.005)
        return self.ends[0]


@contextlib.contextmanager
def to_a_model(begun: Any = lambda: 0) -> Any:
    ours, theirs = socket.socketpair()
    calls = Calls(Channel(ours, replies.KINDS, MIB), begun)
    calls.start()
    try:
        yield calls, Channel(theirs, (CALL, CANCEL), 1 << 30)
    finally:
        theirs.close()
        calls.bury()
        ours.close()


def test_a_cancelled_call_leaves_the_queue_with_its_bytes_and_is_never_sent() -> None:
    with to_a_model() as (calls, model):
        first = Caller(calls, b"a" * 8 * MIB)  # more than the socket takes: its rest is queued
        others = [Caller(calls, b"b" * MIB) for _ in range(5)]
        for other in others[:4]:
            other.cancel()
        queued = sum(len(piece) for unsent in calls._unsent.values() for piece in unsent)

        assert [other.ends for other in others[:4]] == [[Gone(begun=True)]] * 4
        assert queued < 9.1 * MIB
        assert [frame.id for _ in range(2) for frame in model.receive()] == [1, 6]
        model.send([Frame(ANSWER, 1, 1, b"A"), Frame(ANSWER, 1, 6, b"B")])
        assert (first.wait().result, others[4].wait().result) == (b"A", b"B")
        assert calls.violation == ""


def test_a_call_that_is_cancelled_while_it_is_sent_counts_until_it_is_sent() -> None:
    with to_a_model() as (calls, model):
        first = Caller(calls, b"a" * 8 * MIB)
        time.sleep(0.1)
        first.cancel()
        assert first.ends == []
        assert calls.count == 0
        frames = model.receive()
        frames += model.receive()

        assert [(frame.kind, frame.id) for frame in frames] == [(CALL, 1), (CANCEL, 1)]
        assert first.wait() == Gone(begun=True)
        model.send([Frame(DROPPED, 0, 1)])
        time.sleep(0.1)
        assert calls.busy().seconds == 0
        assert calls.violation == ""


def test_a_process_that_reads_nothing_is_known_to_be_stuck_even_when_every_caller_gives_up() -> None:
    with to_a_model() as (calls, _model):
        for _ in range(5):
            caller = Caller(calls, b"x")
            caller.cancel()
            assert caller.ends == [Gone(begun=True)]
            time.sleep(0.1)

        assert calls.count == 0
        assert calls.busy().seconds > 0.4


def test_a_model_reads_no_more_ahead_than_it_may_hold() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(theirs, (CALL, CANCEL), 1 << 30)
    every = [Frame(CALL, 0, number, b"x" * MIB) for number in range(1, 9)]
    sender = threading.Thread(target=Channel(ours, (), 0).send, args=(every,))
    sender.start()
    first = channel.receive()
    time.sleep(0.1)
    ahead = channel.receive_waiting(3 * MIB)
    nothing = channel.receive_waiting(0)
    rest = [frame for _ in range(8 - len(first) - len(ahead)) for frame in channel.receive()]
    sender.join()
    ours.close()
    theirs.close()

    assert 1 <= sum(len(frame.payload) for frame in ahead) // MIB <= 3
    assert nothing == []
    assert [frame.id for frame in (*first, *ahead, *rest)] == list(range(1, 9))
