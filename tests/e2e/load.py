"""Constant load, from a pod inside the cluster: what comes of each call is counted. Its last line is JSON with `done`.

Plain clients: no retries of their own, but where the variable RETRIES is set those of gRPC, as docs/kubernetes.md has them. They
find pods as a client of a headless Service should: every address, asked again soon.
"""

import collections
import json
import os
import threading
import time
from pathlib import Path

import grpc
import numpy as np

from model_runtime.contract import DataType
from model_runtime.tensors import ERAS, Request, array, decode_response, encode_request, tensor

TARGET, CLIENTS = os.environ["TARGET"], int(os.environ["CLIENTS"])
CALLS, RATE = int(os.environ["CALLS"]), float(os.environ["RATE"])  # of each client, at least; calls a second of all
ENOUGH = Path("/tmp/enough")  # the load goes on until this file is there, where the variable UNTIL_TOLD is set
SLOW_SECONDS = 1.0
DEADLINE_SECONDS = 15.0
ERA = ERAS["v2"]
POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
SERVICE = {"loadBalancingConfig": [{"round_robin": {}}]} | (
    {"methodConfig": [{"name": [{}], "retryPolicy": POLICY}]} if os.environ.get("RETRIES") else {}
)
OPTIONS = [
    ("grpc.service_config", json.dumps(SERVICE)),
    ("grpc.dns_min_time_between_resolutions_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
]
PAIRS = [
    (encode_request(ERA, Request({"x": tensor(np.array([n, 2 * n]), DataType.INT64)}, "")), [2 * n, 4 * n])
    for n in range(100)
]


class Tally:
    """What came of the calls, in all."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.calls = self.wrong = self.slow = 0
        self.lost: collections.Counter[str] = collections.Counter()
        self.seconds: list[float] = []

    def add(self, seconds: float, problem: str, is_wrong: bool) -> None:
        with self.lock:
            self.calls += 1
            self.wrong += is_wrong
            self.slow += seconds > SLOW_SECONDS
            self.seconds.append(seconds)
            if problem:
                self.lost[problem] += 1

    def say(self, **more: object) -> None:
        with self.lock:
            counts = {"calls": self.calls, "lost": sum(self.lost.values()), "wrong": self.wrong, "slow": self.slow}
        print(json.dumps({**counts, **more}), flush=True)

    def say_all(self) -> None:
        ordered = sorted(self.seconds)
        at = {name: round(1000 * ordered[int(share * (len(ordered) - 1))], 1) for name, share in SHARES.items()}
        self.say(done=True, milliseconds=at, problems=dict(self.lost.most_common(20)))


SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


def client(number: int, tally: Tally, enough: threading.Event) -> None:
    with channel_to(f"dns:///{TARGET}") as channel:
        call = channel.unary_unary(ERA.predict)
        begin = time.monotonic() + number / RATE
        count = 0
        while count < CALLS or not enough.is_set():
            time.sleep(max(0.0, begin + count * CLIENTS / RATE - time.monotonic()))
            tally.add(*one(call, *PAIRS[count % len(PAIRS)]))
            count += 1


def channel_to(target: str) -> grpc.Channel:
    """With TLS where the variable TLS names a folder of certificates."""
    if "TLS" not in os.environ:
        return grpc.insecure_channel(target, OPTIONS)
    files = (Path(os.environ["TLS"], name) for name in ("ca.crt", "tls.key", "tls.crt"))
    root, key, chain = (file.read_bytes() if file.exists() else None for file in files)
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(root, key, chain), OPTIONS)


def one(call: grpc.UnaryUnaryMultiCallable, request: bytes, expected: list[int]) -> tuple[float, str, bool]:
    started = time.monotonic()
    try:
        answer = call(request, timeout=DEADLINE_SECONDS)
    except grpc.RpcError as error:
        return time.monotonic() - started, f"{error.code().name}: {error.details()}", False
    took = time.monotonic() - started
    return took, "", array(decode_response(ERA, answer)["y"]).tolist() != expected


def main() -> None:
    tally, enough = Tally(), threading.Event()
    threads = [threading.Thread(target=client, args=(number, tally, enough)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if "UNTIL_TOLD" not in os.environ or ENOUGH.exists():
            enough.set()
        time.sleep(1)
        tally.say()
    tally.say_all()


main()
