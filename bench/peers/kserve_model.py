"""The model behind KServe's Python server, Open Inference Protocol over gRPC."""

from __future__ import annotations

import importlib
import sys

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid

TYPES = {"float32": "FP32", "float64": "FP64", "int64": "INT64"}


class Served(Model):
    def load(self) -> bool:
        self.function = importlib.import_module("func_main").predict
        self.ready = True
        return True

    def predict(self, payload: InferRequest, headers: object = None) -> InferResponse:
        outputs = self.function(**{each.name: each.as_numpy() for each in payload.inputs})
        answers = []
        for name, value in outputs.items():
            answer = InferOutput(name=name, shape=list(value.shape), datatype=TYPES[str(value.dtype)])
            answer.set_data_from_numpy(value, binary_data=False)
            answers.append(answer)
        return InferResponse(response_id=payload.id or generate_uuid(), model_name=self.name, infer_outputs=answers)


def main(model_dir: str, port: str, http: str) -> None:
    sys.path.insert(0, f"{model_dir}/files/src")
    model = Served("model")
    model.load()
    server = ModelServer(http_port=int(http), grpc_port=int(port), workers=1)
    server.start([model])


if __name__ == "__main__":
    main(*sys.argv[1:4])  # the rest is read by kserve itself
