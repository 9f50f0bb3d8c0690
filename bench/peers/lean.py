"""The lean baseline: grpcio's sync server, 10 threads, protobuf messages, the model's function in the same process. Nothing else.

What a careful person writes in thirty lines, without contract, isolation, eras or limits: the ratios in ACCOUNT.md are to this.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from concurrent import futures
from functools import partial
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from model_runtime import protos

PACKAGE = "hydrosphere.tensorflow.serving"
FIELDS = {1: ("float_val", "f4"), 2: ("double_val", "f8"), 7: ("string_val", "S"), 9: ("int64_val", "i8")}
NUMBERS = {np.dtype(kind).kind + kind[1:]: (number, name) for number, (name, kind) in FIELDS.items()}
Request = protos.message("v2", f"{PACKAGE}.PredictRequest")
Response = protos.message("v2", f"{PACKAGE}.PredictResponse")


def main(model_dir: str, port: str, respond: Callable[[Any], Any] | None = None) -> None:
    """`respond` makes a response of a request; without it the model's function is imported once and called."""
    sys.path[:0] = [f"{model_dir}/files/src", f"{model_dir}/lib"]
    respond = respond or partial(answer, importlib.import_module("func_main").predict)
    handler = grpc.unary_unary_rpc_method_handler(
        lambda request, _context: respond(request),
        Request.FromString,
        lambda message: message.SerializeToString(),
    )
    serve(port, handler)


def serve(port: str, handler: grpc.RpcMethodHandler) -> None:
    server = grpc.server(
        futures.ThreadPoolExecutor(10),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    service = grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", {"Predict": handler})
    healthy = health.HealthServicer()
    healthy.set("readiness", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def answer(function: Any, request: Any) -> Any:
    outputs = function(**{name: array(tensor) for name, tensor in request.inputs.items()})
    response = Response()
    for name, value in outputs.items():
        fill(response.outputs[name], value)
    return response


def array(tensor: Any) -> np.ndarray:
    name, kind = FIELDS[tensor.dtype]
    return np.array(getattr(tensor, name), dtype=kind).reshape([dim.size for dim in tensor.tensor_shape.dim])


def fill(tensor: Any, value: np.ndarray) -> None:
    tensor.dtype, name = NUMBERS["S" if value.dtype.kind == "S" else value.dtype.kind + str(value.dtype.itemsize)]
    getattr(tensor, name).extend(value.ravel().tolist())
    for size in value.shape:
        tensor.tensor_shape.dim.add(size=size)


if __name__ == "__main__":
    main(*sys.argv[1:])
