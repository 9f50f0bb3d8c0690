"""The model behind PyTriton 0.7: NVIDIA's tritonserver with its dynamic batcher, the function in this process."""

from __future__ import annotations

import importlib
import sys

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

KINDS = {"float32": np.float32, "double": np.float64, "int64": np.int64}


def main(model_dir: str, port: str, inputs: str, outputs: str, http: str, metrics: str) -> None:
    """`inputs` and `outputs` are type and length of a row: float32:4."""
    sys.path.insert(0, f"{model_dir}/files/src")
    predict = importlib.import_module("func_main").predict
    config = TritonConfig(
        grpc_port=int(port), http_port=int(http), metrics_port=int(metrics), grpc_address="127.0.0.1", log_verbose=0
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="model",
            infer_func=batch(predict),
            inputs=[_tensor("x", inputs)],
            outputs=[_tensor("y", outputs)],
            config=ModelConfig(max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
        )
        triton.serve()


def _tensor(name: str, text: str) -> Tensor:
    kind, length = text.split(":")
    return Tensor(name=name, dtype=KINDS[kind], shape=(int(length),))


if __name__ == "__main__":
    main(*sys.argv[1:])
