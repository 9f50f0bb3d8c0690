"""A runtime of one's own: linear models, kept as a table of weights instead of code."""

import sys

import numpy as np
from model_runtime import RuntimeService, serve


class LinearRuntime(RuntimeService):
    def load(self):
        self.weights = np.loadtxt(self.directory.files / "weights.csv", delimiter=",")

    def Predict(self, request, context):
        return {"y": request.inputs["x"] @ self.weights}


if __name__ == "__main__":
    sys.exit(serve(LinearRuntime))
