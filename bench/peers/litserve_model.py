"""The model behind LitServe (HTTP, JSON)."""

from __future__ import annotations

import importlib
import sys

import litserve
import numpy as np


class Served(litserve.LitAPI):
    def setup(self, device: str) -> None:
        sys.path.insert(0, f"{sys.argv[1]}/files/src")
        self.function = importlib.import_module("func_main").predict
        self.dtype = sys.argv[3]

    def decode_request(self, request: dict) -> np.ndarray:  # type: ignore[type-arg]
        return np.array(request["x"], dtype=self.dtype)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.function(x=x)["y"]

    def encode_response(self, output: np.ndarray) -> dict:  # type: ignore[type-arg]
        return {"y": output.tolist()}


if __name__ == "__main__":
    litserve.LitServer(Served(), accelerator="cpu").run(
        host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False
    )
