"""The model behind BentoML (HTTP, JSON): `bentoml serve bentoml_service:Served`. MODEL_FILES says where the model's code is."""

from __future__ import annotations

import importlib
import os
import sys

import bentoml
import numpy as np


@bentoml.service(workers=1, traffic={"timeout": 60})
class Served:
    def __init__(self) -> None:
        sys.path.insert(0, os.environ["MODEL_FILES"])
        self.function = importlib.import_module("func_main").predict
        self.dtype = os.environ["MODEL_DTYPE"]

    @bentoml.api
    def predict(self, x: list) -> dict:  # type: ignore[type-arg]
        return {"y": self.function(x=np.array(x, dtype=self.dtype))["y"].tolist()}
