"""What a model process may send, sent by a hostile one: it is ended and started again, and nobody else notices."""

from __future__ import annotations

import json
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import model_directory

from model_runtime import RuntimeManager, tensors
from model_runtime.client import Client
from model_runtime.errors import PredictionError
from model_runtime.model.channel import ANSWER, DROPPED, FAILURE, Channel, ChannelError, Frame, pieces
from model_runtime.model.config import FAILURE_BYTES, STATUS_LINE_BYTES
from model_runtime.outcome import Outcome
from model_runtime.settings import Settings
from model_runtime.supervisor import replies
from model_runtime.supervisor.calls import Calls, Gone

HEADER = struct.Struct("<BBQQdd")
PROMISE = {
    "name": "act",
    "inputs": {"attack": {"shape": "scalar", "type": "string"}},
    "outputs": {"y": {"shape": "scalar", "type": "int64"}},
}
# Finds our own descriptors as an attacker would.
CODE = """
import json, os, socket, stat, struct, sys, time

HEADER = struct.Struct("<BBQQdd")

def act(attack):
    if attack:
        globals()[str(attack)]()
        time.sleep(30)
    return {"y": 1}

def channel():
    return next(fd for fd in range(3, 64) if kind(fd) == stat.S_IFSOCK)

def status():
    return next(fd for fd in range(3, 64) if kind(fd) == stat.S_IFIFO)

def page():
    return next(fd for fd in range(3, 64) if kind(fd) == stat.S_IFREG)

def kind(fd):
    try:
        return stat.S_IFMT(os.fstat(fd).st_mode)
    except OSError:
        return 0

def write(fd, data):
    while data:
        data = data[os.write(fd, data):]

def announces_six_gib(): write(channel(), HEADER.pack(3, 1, 1, 6 << 30, 0, 0))
def announces_everything(): write(channel(), HEADER.pack(3, 1, 1, 2**64 - 1, 0, 0))
def sends_noise(): write(channel(), os.urandom(100_000))
def sends_an_unknown_kind(): write(channel(), HEADER.pack(9, 1, 1, 0, 0, 0))
def sends_a_call(): write(channel(), HEADER.pack(1, 1, 1, 0, 0, 0))
def answers_a_call_that_nobody_made(): write(channel(), HEADER.pack(3, 1, 77, 0, 0, 0))
def drops_a_call_that_nobody_cancelled(): write(channel(), HEADER.pack(5, 0, 1, 0, 0, 0))
def takes_no_time_at_all(): write(channel(), HEADER.pack(3, 1, 1, 0, float("nan"), 0))
def fails_without_reason(): write(channel(), HEADER.pack(4, 1, 1, 2, 0, 0) + b"{}")
def fails_in_no_json(): write(channel(), HEADER.pack(4, 1, 1, 4, 0, 0) + b"\\xff\\xfe[[")
def fails_in_deep_json(): fail(b"[" * 100_000)
def fails_with_a_class_that_is_no_error(): fail(json.dumps({"error": "Violation", "summary": "", "violations": []}).encode())
def fails_with_an_unknown_class(): fail(json.dumps({"error": "Nonesuch", "summary": "", "violations": []}).encode())
def fails_with_other_violations(): fail(json.dumps({"error": "InvalidRequest", "summary": "", "violations": [[1, 2]]}).encode())
def fail(payload): write(channel(), HEADER.pack(4, 1, 1, len(payload), 0, 0) + payload)
def says_nothing_in_json(): write(status(), b"not json\\n")
def says_a_list(): write(status(), b"[]\\n")
def says_an_unknown_phase(): write(status(), b'{"phase": "dancing"}\\n')
def says_a_number(): write(status(), b'{"phase": 7}\\n')
def says_that_it_serves_again(): write(status(), b'{"phase": "serving"}\\n')
def says_that_it_failed_after_all(): write(status(), b'{"phase": "failed", "error": "ModelError", "message": "x"}\\n')
def says_it_is_another(): write(status(), b'{"phase": "started", "pid": 1234, "problem": ""}\\n')
def says_it_never_started(): write(status(), b'{"phase": "unstarted", "problem": ""}\\n')
def says_it_is_init(): write(status(), b'{"phase": "started", "pid": 1, "problem": ""}\\n')
def says_a_line_without_end(): write(status(), b"x" * 600_000)
def says_deep_json(): write(status(), b"[" * 100_000 + b"\\n")
def says_a_foreign_record(): write(status(), b'{"phase": "record", "level": "PANIC", "message": "", "fields": {}}\\n')
"""
ATTACKS = [
    line.split("(")[0][4:]
    for line in CODE.splitlines()
    if line.startswith(("def ann", "def says", "def fails", "def sends", "def answers", "def drops", "def takes"))
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = model_directory(tmp_path_factory.mktemp("hostile") / "model", CODE, PROMISE)
    with RuntimeManager(directory, 0, settings=Settings(warmup=False, batch_max_size=1)) as runtime:
        runtime.wait_loaded(20)
        with Client(f"localhost:{runtime.port}", timeout=20) as client:
            yield runtime, client


def ask(client: Client, attack: str) -> Any:
    return client.predict({"attack": tensors.tensor(attack)})


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_process_that_sends_what_it_may_not_is_ended_and_started_again(
    served: Any, attack: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, client = served
    monkeypatch.setattr(logging.getLogger("model_runtime"), "propagate", True)
    with pytest.raises(grpc.RpcError) as failure:
        ask(client, attack)
    runtime.wait_loaded(20)

    assert failure.value.code() is grpc.StatusCode.INTERNAL
    assert "the model process broke the protocol of its channel and was ended while it was answering" in (
        failure.value.details() or ""
    )
    reasons = [record.reason for record in caplog.records if record.message == "model process ended"]  # type: ignore[attr-defined]
    assert len(reasons) == 1
    assert "was ended: expected " in reasons[0]
    assert int(ask(client, "")["y"]) == 1


def test_a_flood_of_status_lines_costs_nobody_else_anything(tmp_path: Path) -> None:
    line = b'{"phase": "record", "level": "INFO", "message": "x", "exception": "", "fields": {}}\n'
    code = CODE + f"\ndef floods():\n    while True: write(status(), {line!r} * 700)\n"
    chosen = Settings(warmup=False, batch_max_size=1, model_timeout=2.0, model_processes=2)
    with RuntimeManager(model_directory(tmp_path, code, PROMISE), 0, settings=chosen) as runtime:
        runtime.wait_loaded(20)
        assert runtime._host is not None
        while len(runtime._host.pids()) < 2:
            time.sleep(0.05)
        with Client(f"localhost:{runtime.port}", timeout=20) as client:
            ends: list[Any] = []
            flooding = threading.Thread(target=lambda: ends.append(error_of(lambda: ask(client, "floods"))))
            flooding.start()
            answers = 0
            while flooding.is_alive():
                answers += int(ask(client, "")["y"])
                assert runtime._host.is_alive()
            flooding.join()

    assert answers > 20
    assert "(MODEL_TIMEOUT)" in ends[0]


def error_of(call: Callable[[], Any]) -> str:
    try:
        call()
    except grpc.RpcError as error:
        return str(error.details())
    return ""


def test_a_page_that_the_model_cuts_off_or_fills_does_not_hurt_the_server(tmp_path: Path) -> None:
    code = CODE + (
        "\ndef cuts(): os.ftruncate(page(), 0); os._exit(3)\n"
        "\ndef fills(): os.pwrite(page(), b'\\xff' * 8, 0); os._exit(4)\n"
    )
    with RuntimeManager(
        model_directory(tmp_path, code, PROMISE), 0, settings=Settings(warmup=False, batch_max_size=1)
    ) as runtime:
        runtime.wait_loaded(20)
        with Client(f"localhost:{runtime.port}", timeout=20) as client:
            for attack in ("cuts", "fills", "cuts"):
                assert error_of(lambda attack=attack: ask(client, attack)) != ""  # type: ignore[misc]
                runtime.wait_loaded(20)
                assert int(ask(client, "")["y"]) == 1


# The readers alone, against anything ----------------------------------------------------------------------------------


def receiving(data: bytes, limit: int = 1000) -> list[Frame] | None:
    """The frames in `data`; None where they are refused."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=lambda: (theirs.sendall(data), theirs.shutdown(socket.SHUT_WR)))
        sender.start()
        channel = Channel(ours, replies.KINDS, limit)
        frames: list[Frame] = []
        try:
            while True:
                frames += channel.receive()
        except EOFError:
            return frames
        except ChannelError:
            return None
        finally:
            ours.shutdown(socket.SHUT_RD)
            sender.join()


frames = st.builds(
    Frame,
    st.sampled_from(replies.KINDS),
    st.integers(0, 255),
    st.integers(0, 2**64 - 1),
    st.one_of(st.binary(max_size=300), st.integers(0, 3).map(lambda size: b"x" * size * 40_000)),
    st.floats(allow_nan=False),
    st.floats(allow_nan=False),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(frames, max_size=6), st.integers(0, 60))
def test_frames_arrive_as_they_were_sent_and_a_cut_one_not_at_all(sent: list[Frame], cut: int) -> None:
    data = b"".join(pieces(sent))
    whole = receiving(data, 1 << 20)
    broken = receiving(data[: len(data) - cut], 1 << 20)

    assert whole is not None
    assert [frame._replace(payload=bytes(frame.payload)) for frame in whole] == sent
    assert broken is not None
    assert len(broken) <= len(sent)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 255), st.integers(0, 2**64 - 1))
def test_no_bytes_on_a_channel_do_anything_but_arrive_or_be_refused(noise: bytes, kind: int, size: int) -> None:
    read = receiving(HEADER.pack(kind, 0, 1, size, 0, 0) + noise)

    if kind not in replies.KINDS or size > 1000:
        assert read is None
    else:
        assert read is None or all(len(frame.payload) <= 1000 for frame in read)


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from((ANSWER, FAILURE)),
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["error", "summary", "violations"]), inner, max_size=3)
            ),
        ).map(lambda value: json.dumps(value).encode()),
    ),
    st.floats(),
)
def test_no_answer_does_anything_but_count_or_be_refused(kind: int, payload: bytes, seconds: float) -> None:
    try:
        outcome = replies.outcome(Frame(kind, 1, 1, payload, seconds, 0.0))
    except ChannelError as error:
        assert str(error).startswith("expected ")
        return
    assert isinstance(outcome.result, PredictionError if kind == FAILURE else bytes)
    assert outcome.model_seconds >= 0


words = st.sampled_from(
    [
        "phase",
        "serving",
        "failed",
        "started",
        "unstarted",
        "record",
        "level",
        "INFO",
        "message",
        "problem",
        "pid",
        "fields",
    ]
)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=50),
            st.dictionaries(words, words | st.integers() | st.lists(words) | st.dictionaries(words, words)).map(
                lambda value: json.dumps(value).encode() + b"\n"
            ),
        ),
        max_size=5,
    )
)
def test_no_line_of_status_does_anything_but_count_or_be_refused(data: list[bytes]) -> None:
    reader = replies.StatusReader()
    try:
        for piece in data:
            for status in reader.read(piece):
                assert isinstance(status, tuple)
    except ChannelError as error:
        assert str(error).startswith("expected ")


def test_a_line_of_status_has_an_end() -> None:
    reader = replies.StatusReader()
    reader.read(b"x" * STATUS_LINE_BYTES)
    with pytest.raises(ChannelError, match="expected a status line of at most"):
        reader.read(b"x")


def test_an_error_that_is_too_long_to_be_read_is_refused() -> None:
    with pytest.raises(ChannelError, match="expected an error of at most"):
        replies.outcome(Frame(FAILURE, 1, 1, b"[" * (FAILURE_BYTES + 1)))


def test_memory_grows_with_what_arrives_and_not_with_what_is_announced() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(HEADER.pack(ANSWER, 1, 1, 1 << 40, 0, 0) + b"x" * 1000)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(EOFError):
            Channel(ours, replies.KINDS, 1 << 41).receive()


def test_calls_are_numbered_beyond_32_bits() -> None:
    ours, theirs = socket.socketpair()
    answers: list[Outcome | Gone] = []
    calls = Calls(Channel(ours, replies.KINDS, 1000), lambda: 0)
    calls._last = 2**32 - 2
    calls.start()
    model = Channel(theirs, (1, 2), 1000)
    for _ in range(4):
        calls.submit(0, b"?", 0.0, lambda _cancel: True, answers.append)
        [call] = model.receive()
        model.send([Frame(ANSWER, 1, call.id, b"!")])
    calls._reader.join(0.2)
    calls.bury()
    ours.close()
    theirs.close()

    assert calls.violation == ""
    assert [getattr(answer, "result", None) for answer in answers] == [b"!"] * 4
    assert DROPPED in replies.KINDS
