"""`python honest.py PORT SECONDS RATE`: an honest client at a steady rate, and a probe; prints what became of them as JSON.

Runs in a process of its own, so that what an attacking test does costs it no time.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from model_runtime import tensors

ERA = tensors.ERAS["v2"]
DEADLINE_SECONDS = 20.0  # of a call; one that ends later is lost
PROBE_SECONDS = 0.25


class Record:
    """How calls and probes ended."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.ended: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.probes: list[float] = []
        self.failed_probes = 0


def main() -> int:
    port, seconds, rate = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    record = Record()
    channels = [grpc.insecure_channel(f"localhost:{port}", [("grpc.use_local_subchannel_pool", 1)]) for _ in range(4)]
    prober = threading.Thread(target=_probe, args=(port, seconds, record))
    prober.start()
    _call(channels, seconds, rate, record)
    prober.join()
    for channel in channels:
        channel.close()
    latencies = np.sort(record.seconds or [0.0])
    print(
        json.dumps(
            {
                "ended": record.ended,
                "p50_ms": round(float(np.quantile(latencies, 0.5)) * 1e3, 1),
                "p99_ms": round(float(np.quantile(latencies, 0.99)) * 1e3, 1),
                "worst_ms": round(float(latencies[-1]) * 1e3, 1),
                "probes": len(record.probes),
                "failed_probes": record.failed_probes,
                "worst_probe_ms": round(max(record.probes, default=0.0) * 1e3, 1),
            }
        )
    )
    return 0


def _call(channels: list[grpc.Channel], seconds: float, rate: float, record: Record) -> None:
    methods = [channel.unary_unary(ERA.predict) for channel in channels]
    began = time.monotonic()
    waiting = []
    for number in range(int(seconds * rate)):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        value = float(number)
        request = tensors.encode_request(ERA, tensors.Request({"x": tensors.tensor(np.array([value]))}))
        call = methods[number % len(methods)].future(request, timeout=DEADLINE_SECONDS)
        call.add_done_callback(_ended(value, time.monotonic(), record))
        waiting.append(call)
        waiting = [one for one in waiting if not one.done()]
    for call in waiting:
        call.exception()
    time.sleep(0.2)  # for the last callback


def _ended(value: float, began: float, record: Record):  # type: ignore[no-untyped-def]
    def ended(call: grpc.Future) -> None:
        taken = time.monotonic() - began
        error = call.exception()
        if error is not None:
            word = f"{error.code().name}: {error.details()}"[:200]  # type: ignore[attr-defined]
        else:
            answer = tensors.decode_response(ERA, call.result())["y"].values.tolist()
            word = "right" if answer == [2 * value] else f"WRONG: {answer} for {value}"
        with record.lock:
            record.ended[word] += 1
            record.seconds.append(taken)

    return ended


def _probe(port: int, seconds: float, record: Record) -> None:
    """As the kubelet does: a new connection each time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        with grpc.insecure_channel(f"localhost:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
            try:
                health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="liveness"), timeout=5)
            except grpc.RpcError:
                record.failed_probes += 1
        record.probes.append(time.monotonic() - began)
        time.sleep(PROBE_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
