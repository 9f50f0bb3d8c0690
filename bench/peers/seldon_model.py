"""The model behind Seldon's Python wrapper: `seldon-core-microservice seldon_model.Served`. MODEL_FILES has the code."""

from __future__ import annotations

import importlib
import os
import sys

import numpy as np


class Served:
    def __init__(self) -> None:
        sys.path.insert(0, os.environ["MODEL_FILES"])
        self.function = importlib.import_module("func_main").predict
        self.dtype = os.environ["MODEL_DTYPE"]

    def predict(self, x: np.ndarray, names: object = None, meta: object = None) -> np.ndarray:
        return self.function(x=np.asarray(x, dtype=self.dtype))["y"]
