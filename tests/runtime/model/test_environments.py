"""The modules of the model process on every Python a model may bring, with nothing but numpy beside them."""

from __future__ import annotations

import subprocess

import pytest
from environments import PYTHONS, ROOT, environment
from serving import model_directory

NUMPY = {"3.8": "numpy==1.19.5", "3.9": "numpy==1.22.4", "3.10": "numpy==1.24.4", "3.11": "numpy==1.23.5"}

SCRIPT = f"""
import sys, pathlib
sys.path.append({str(ROOT / "runtime")!r})
from model_runtime import synthesis, tensors
from model_runtime.model.directory import ModelDirectory
from model_runtime.model.service import RuntimeService
from model_runtime.prediction import Predictor
directory = ModelDirectory(pathlib.Path(sys.argv[1]))
service = RuntimeService(directory.path, directory.read_contract())
service.load()
predictor = Predictor(service)
for era in tensors.ERAS.values():
    inputs = synthesis.inputs(service.contract.signatures[0].inputs, 3)
    answer = predictor.handle(era.predict, tensors.encode_request(era, tensors.Request(inputs)))
    values = tensors.array(tensors.decode_response(era, answer)["y"])
    assert values.tolist() == [2.0, 2.0, 2.0], values
imported = {{name.partition(".")[0] for name in sys.modules}}
print(sys.version_info[:2], sorted(imported & {{"grpc", "google", "yaml", "click"}}))
"""


@pytest.mark.parametrize("python", PYTHONS)
def test_a_model_answers_on_that_python_with_numpy_alone(python: str, tmp_path: object) -> None:
    interpreter = environment(python, NUMPY.get(python, "numpy"))
    model = model_directory(tmp_path, "def echo(x):\n    return {'y': x * 2}\n")  # type: ignore[arg-type]

    done = subprocess.run(
        [str(interpreter), "-W", "ignore", "-c", SCRIPT, str(model)], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{tuple(map(int, python.split('.')))} []"
