"""The codec runs in the model's process: on the model's Python, with the model's numpy and nothing else."""

import subprocess
from pathlib import Path
from random import Random

import grammar
import infer_oracle
import oracle
import pytest
from environments import environment
from on_any_python import digest

from model_runtime.tensors import ERAS

HERE = Path(__file__).parent
RUNTIME = HERE.parents[2] / "runtime"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Requests on which we and protobuf agree here."""
    rng = Random(7)
    lines = []
    for era in ERAS.values():
        for _ in range(400):
            data = grammar.message(rng, f"{era.name}.request")
            oracle.request(era, data)
            lines.append(f"{era.name} {data.hex()}")
    for _ in range(400):
        data = grammar.message(rng, "infer.request")
        infer_oracle.request(data)
        lines.append(f"open-inference {data.hex()}")
    path = tmp_path_factory.mktemp("corpus") / "requests"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("python", "numpy"),
    [
        ("3.8", "1.19.5"),
        ("3.8", "1.24.4"),
        ("3.9", "2.0.2"),
        ("3.10", "1.21.6"),
        ("3.11", "1.23.5"),
        ("3.12", "1.26.4"),
        ("3.13", "2.1.0"),
    ],
)
def test_every_python_and_numpy_reads_the_same(python: str, numpy: str, corpus: Path) -> None:
    interpreter = environment(python, f"numpy=={numpy}")
    here = [
        digest(name, bytes.fromhex(data))
        for name, data in (line.split(" ") for line in corpus.read_text().splitlines())
    ]

    done = subprocess.run(
        [interpreter, "-W", "error", HERE / "on_any_python.py", corpus],
        env={"PYTHONPATH": str(RUNTIME), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )

    assert done.stderr == ""
    assert done.stdout.splitlines() == here
