"""`python assault.py PORT SECONDS`: every attack of `attacks`, one after another and mixed, until the time is over.

Prints how often each was made as JSON. For loopback only; ends by itself.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

import attacks
import grpc
import numpy as np
from attacks import CHECK, MODEL, PREDICT, REFLECT, WATCH, Connection, frame

from model_runtime import tensors

MIB = 1 << 20
ERA = tensors.ERAS["v2"]
LARGE = tensors.encode_request(ERA, tensors.Request({"x": tensors.tensor(np.zeros(MIB // 8))}))


def half_open_streams(port: int) -> None:
    with attacks.half_open(port, random.choice((PREDICT, CHECK, REFLECT, WATCH)), 500):
        time.sleep(0.5)


def half_sent_messages(port: int) -> None:
    with attacks.half_sent(port, random.choice((PREDICT, REFLECT)), 8, sent=2 * MIB, announced=400 * MIB):
        time.sleep(0.5)


def bombs(port: int) -> None:
    with Connection(port) as connection:
        for _ in range(3):
            attacks.gzipped(connection, random.choice((PREDICT, REFLECT)), 256 * MIB)


def watchers_that_never_read(port: int) -> None:
    names = [random.choice((MODEL, "", f"unknown-{number}")) for number in range(200)]
    with attacks.watches(port, names, window=1):
        time.sleep(0.5)


def watchers_that_come_and_go(port: int) -> None:
    for _ in range(8):
        with attacks.health_checking_channel(port) as channel, contextlib.suppress(grpc.RpcError):
            channel.unary_unary(CHECK)(b"", timeout=5, wait_for_ready=True)


def cancelled_calls(port: int) -> None:
    """Large requests of clients that give up at once, fifty at a time."""
    with grpc.insecure_channel(f"localhost:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        method = channel.unary_unary(PREDICT)
        for _ in range(3):
            calls = [method.future(LARGE, timeout=5) for _ in range(50)]
            time.sleep(random.choice((0.0, 0.01, 0.1)))
            for call in calls:
                call.cancel()


def reset_streams(port: int) -> None:
    """Rapid resets."""
    with Connection(port) as connection:
        for _ in range(300):
            stream = connection.begin(PREDICT)
            connection.h2.reset_stream(stream)
        connection.flush()
        connection.read(0.2)


def wrong_requests(port: int) -> None:
    bodies = (b"", b"\xff" * 1000, b"\x12\x00" * 100_000, b"\x0a\x00" * 100_000, bytes(random.randbytes(4096)))
    with Connection(port) as connection:
        for body in bodies:
            connection.ending(_sent(connection, body), 5)


def _sent(connection: Connection, body: bytes) -> int:
    stream = connection.begin(PREDICT)
    connection.send(stream, frame(body), end=True)
    return stream


def silent_connections(port: int) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(Connection(port))
        time.sleep(0.5)


ATTACKS: tuple[Callable[[int], None], ...] = (
    half_open_streams,
    half_sent_messages,
    bombs,
    watchers_that_never_read,
    watchers_that_come_and_go,
    cancelled_calls,
    reset_streams,
    wrong_requests,
    silent_connections,
)


def main() -> int:
    port, end = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
    made: Counter[str] = Counter()
    lanes = [threading.Thread(target=_lane, args=(port, end, lane, made)) for lane in range(2)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    print(json.dumps(made))
    return 0


def _lane(port: int, end: float, seed: int, made: Counter[str]) -> None:
    order = list(ATTACKS)
    random.Random(seed).shuffle(order)
    for attack in itertools.cycle(order):
        if time.monotonic() > end:
            return
        with contextlib.suppress(OSError, grpc.RpcError):  # the server may refuse the connection, or end it
            attack(port)
        made[attack.__name__] += 1


if __name__ == "__main__":
    sys.exit(main())
