"""What is asked: models as one function over numpy, the requests, and the answers that are right. Knows no server and no wire."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from model_runtime import contract

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]

IDENTITY = """
def predict(x):
    return {"y": x}
"""
REGRESSION = """
import numpy as np
from sklearn.linear_model import LogisticRegression

random = np.random.RandomState(1)
MODEL = LogisticRegression().fit(random.rand(500, 10), random.randint(0, 3, 500))


def predict(x):
    return {"y": MODEL.predict_proba(x)}
"""
TABULAR = """
def predict(**columns):
    return {"y": sum(columns[name] for name in sorted(columns))}
"""
COLUMNS = [f"c{number}" for number in range(10)]


@dataclass(frozen=True)
class Work:
    """One model, its requests, and the right answers: none where only the model itself can say them (`computed`)."""

    name: str
    code: str
    dtypes: tuple[str, str]  # of inputs and outputs
    inputs: list[Arrays]
    concurrency: tuple[int, ...] = (1, 8, 64)
    shape: tuple[int, ...] = (-1, 4)
    outputs: tuple[int, ...] = (-1, 4)
    needs: tuple[str, ...] = ()
    peers: tuple[str, ...] | None = None  # None: everybody
    expected: list[Array] = field(default_factory=list)

    def build(self, folder: Path) -> Path:
        """The model directory."""
        (folder / "files" / "src").mkdir(parents=True)
        (folder / "files" / "src" / "func_main.py").write_text(self.code)
        fields = {name: {"shape": list(self.shape), "type": self.dtypes[0]} for name in self.inputs[0]}
        promise = {"inputs": fields, "outputs": {"y": {"shape": list(self.outputs), "type": self.dtypes[1]}}}
        (folder / contract.CONTRACT_FILE).write_bytes(contract.write(contract.parse(promise), "v2"))
        return folder


def _requests(count: int, make: Callable[[np.random.RandomState], Arrays]) -> list[Arrays]:
    random = np.random.RandomState(7)
    return [make(random) for _ in range(count)]


def _one(shape: tuple[int, ...], dtype: str) -> Callable[[np.random.RandomState], Arrays]:
    if np.dtype(dtype).kind == "i":
        return lambda random: {"x": random.randint(-1_000_000, 1_000_000, shape).astype(dtype)}
    return lambda random: {"x": random.standard_normal(shape).astype(dtype)}


def _large(name: str, dtype: str, label: str, count: int, requests: int = 2) -> Work:
    inputs = _requests(requests, _one((1, count), dtype))
    return Work(
        name, IDENTITY, (label, label), inputs, (1,), (-1, -1), (-1, -1), peers=LARGE_PEERS, expected=_identity(inputs)
    )


def _identity(inputs: list[Arrays]) -> list[Array]:
    return [each["x"] for each in inputs]


LARGE_PEERS = ("lean", "hydrosphere", "pytriton", "kserve", "native", "ours", "ours in process")
OWN_PEERS = ("lean", "hydrosphere", "ours", "ours batching", "ours in process")


def all_work() -> list[Work]:
    """Small work for everybody, large and particular work for those who can be asked it in the same form."""
    small = _requests(16, _one((1, 4), "float32"))
    rows = _requests(16, _one((1, 10), "float64"))
    columns = _requests(16, lambda random: {name: random.standard_normal((1,)) for name in COLUMNS})
    words = [{"x": np.array([[f"word {number}.{index}" for index in range(1000)]])} for number in range(4)]
    return [
        Work("identity", IDENTITY, ("float32", "float32"), small, expected=_identity(small)),
        Work(
            "regression", REGRESSION, ("double", "double"), rows, (1, 64), (-1, 10), (-1, 3), needs=("scikit-learn==1.7.2",)
        ),
        Work(
            "10 fields", TABULAR, ("double", "double"), columns, (1, 64), (-1,), (-1,),
            peers=OWN_PEERS, expected=[np.sum([each[name] for name in COLUMNS], axis=0) for each in columns],
        ),
        Work(
            "1,000 strings", IDENTITY, ("string", "string"), words, (1, 64), (-1, -1), (-1, -1),
            peers=OWN_PEERS, expected=_identity(words),
        ),
        _large("100 KB floats", "float32", "float32", 25_000),
        _large("4 MiB floats", "float32", "float32", 1 << 20),
        _large("4 MiB integers", "int64", "int64", 1 << 19),
        _large("64 MiB floats", "float32", "float32", 16 << 20, requests=1),
        _large("64 MiB integers", "int64", "int64", 8 << 20, requests=1),
    ]  # fmt: skip


def computed(work: Work, model: Path) -> list[Array]:
    """What the model's own function answers, in a process with its libraries."""
    with tempfile.TemporaryDirectory() as folder:
        for number, inputs in enumerate(work.inputs):
            np.savez(f"{folder}/{number}.npz", **inputs)  # type: ignore[arg-type]
        code = (
            "import sys, numpy; sys.path[:0] = sys.argv[1:3]; from func_main import predict\n"
            "for n in range(int(sys.argv[4])):\n"
            "    numpy.save(f'{sys.argv[3]}/{n}', predict(**numpy.load(f'{sys.argv[3]}/{n}.npz'))['y'])\n"
        )
        command = [
            sys.executable,
            "-c",
            code,
            str(model / "files" / "src"),
            str(model / "lib"),
            folder,
            str(len(work.inputs)),
        ]
        subprocess.run(command, check=True)
        return [np.load(f"{folder}/{number}.npy") for number in range(len(work.inputs))]
