"""The model behind MLServer: `mlserver start FOLDER` imports this class. MODEL_FILES says where the model's code is."""

from __future__ import annotations

import importlib
import os
import sys

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Served(MLModel):
    async def load(self) -> bool:
        sys.path.insert(0, os.environ["MODEL_FILES"])
        self.function = importlib.import_module("func_main").predict
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        outputs = self.function(**{each.name: NumpyCodec.decode_input(each) for each in payload.inputs})
        answers = [NumpyCodec.encode_output(name, value) for name, value in outputs.items()]
        return InferenceResponse(model_name=self.name, outputs=answers)
