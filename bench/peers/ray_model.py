"""The model behind Ray Serve's gRPC proxy, with the messages of lean: `bench.Predictor/Predict`, stubs on PYTHONPATH."""

from __future__ import annotations

import importlib
import os
import sys
import time

import ray
from ray import serve
from ray.serve.config import gRPCOptions


@serve.deployment(num_replicas=1, max_ongoing_requests=64)
class Served:
    def __init__(self, folder: str) -> None:
        sys.path.insert(0, folder)
        self.function = importlib.import_module("func_main").predict

    def Predict(self, request):  # type: ignore[no-untyped-def]
        import numpy as np
        import row_pb2

        value = self.function(x=np.array([request.values], dtype=request.dtype))["y"]
        return row_pb2.Row(values=value[0].tolist(), dtype=request.dtype)


def main(model_dir: str, port: str, http: str) -> None:
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}},
    )
    serve.start(
        grpc_options=gRPCOptions(
            port=int(port), grpc_servicer_functions=["row_pb2_grpc.add_RowServiceServicer_to_server"]
        ),
        http_options={"port": int(http), "host": "127.0.0.1"},
    )
    serve.run(Served.bind(f"{model_dir}/files/src"), name="model")
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main(*sys.argv[1:])
