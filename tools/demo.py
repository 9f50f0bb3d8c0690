"""`make run`: the digits sample, served here and asked about real handwriting. Prints what was written and what was read.

Starts `model-runtime run manifests/samples/digits.yaml` as a process of its own and talks to it over a real gRPC channel, as any
client would. Leaves it running until Ctrl-C; with --once it ends after the predictions.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from model_runtime import tensors
from model_runtime.client import Client
from model_runtime.contract import DEFAULT_PORT, DataType

SAMPLES = Path(__file__).parent.parent / "manifests" / "samples"
SERVICE = "tensorflow.serving.PredictionService"
LOAD_SECONDS = 120.0  # installing scikit-learn for the first time takes most of it
SHADES = " ░▒▓█"
PER_ROW = 5


def main() -> int:
    arguments = _arguments()
    command = [
        sys.executable,
        "-m",
        "model_runtime",
        "run",
        str(SAMPLES / "digits.yaml"),
        "--port",
        str(arguments.port),
    ]
    runtime = subprocess.Popen(command, start_new_session=True)  # Ctrl-C is ours to pass on
    try:
        return _demonstrate(runtime, arguments)
    except KeyboardInterrupt:
        return 0
    finally:
        runtime.send_signal(signal.SIGINT)
        runtime.wait(30)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve the digits sample and ask it about real handwriting.")
    parser.add_argument("--once", action="store_true", help="end after the predictions instead of serving on")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="where to serve (default: %(default)s)")
    return parser.parse_args()


def _demonstrate(runtime: subprocess.Popen[bytes], arguments: argparse.Namespace) -> int:
    with Client(f"localhost:{arguments.port}") as client:
        if not _wait_serving(client, runtime):
            return runtime.wait(10) or 1
        print(f"\nhealth of {SERVICE}: {client.health(SERVICE)}")
        print(f"contract: {client.contract()}\n")
        good = _recognise(client)
    if not arguments.once:
        print(f"\nServing on port {arguments.port} until Ctrl-C. Ask it yourself:")
        print(f"  .venv/bin/model-runtime predict localhost:{arguments.port}")
        runtime.wait()
    return 0 if good else 1


def _wait_serving(client: Client, runtime: subprocess.Popen[bytes]) -> bool:
    """Watches health until the model serves. False when the runtime ended instead, or took too long."""
    stub = health_pb2_grpc.HealthStub(client.channel)
    end = time.monotonic() + LOAD_SECONDS
    while time.monotonic() < end and runtime.poll() is None:
        try:
            for answer in stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=1.0):
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return True
        except grpc.RpcError:  # not listening yet
            time.sleep(0.1)
    return False


def _recognise(client: Client) -> bool:
    """Sends every example in one request and prints them with the answers. Whether the model read as well as it should."""
    examples = json.loads((SAMPLES / "digits" / "examples.json").read_text())
    pixels = np.array([example["pixels"] for example in examples], dtype="float64")
    answer = client.predict({"pixels": tensors.tensor(pixels, DataType.DOUBLE)})
    verdicts = [
        f"read {read}, is {example['digit']} {'✓' if read == example['digit'] else '✗'} {sure:4.0%}"
        for example, read, sure in zip(examples, answer["digit"], answer["probability"], strict=True)
    ]
    for row in range(0, len(examples), PER_ROW):
        pictures = [list(_picture(image)) for image in pixels[row : row + PER_ROW]]
        for lines in zip(*pictures, strict=True):
            print("  ".join(lines))
        print("  ".join(f"{verdict:<20}" for verdict in verdicts[row : row + PER_ROW]) + "\n")
    right = sum("✓" in verdict for verdict in verdicts)
    print(f"{right} of {len(examples)} images, none of which the model had seen, were read right.")
    return right >= 0.8 * len(examples)


def _picture(image: np.ndarray) -> Iterator[str]:
    """An 8 x 8 image as lines of text, two characters a pixel."""
    for line in image.reshape(8, 8):
        yield "".join(2 * SHADES[int(value) * (len(SHADES) - 1) // 16] for value in line) + " " * 4


if __name__ == "__main__":
    sys.exit(main())
