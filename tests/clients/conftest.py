"""What third-party clients are tried against: real runtimes, each a process of its own, shared by the session.

Each client's program runs once. It prints what its checks found, and each test asserts on one of them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from environments import locked
from serving import Program, model_directory

HERE = Path(__file__).parent
PYTHON = "3.11"  # of the locks
TYPES = (  # TensorFlow's names
    *("float32", "float64", "float16", "bfloat16", "complex64", "complex128", "bool", "string"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("qint8", "quint8", "qint16", "quint16", "qint32"),
)
OIP_TYPES = {
    **{"BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64"},
    **{"INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64"},
    **{"FP16": "float16", "BF16": "bfloat16", "FP32": "float32", "FP64": "float64", "BYTES": "string"},
}
_INTEGERS = {"shape": [-1], "type": "int64"}
_COLUMNS = {"n": {"shape": [-1, 1], "type": "int64"}, "t": {"shape": [-1, 1], "type": "string"}}
_MOODY = """
import os, time
def moody(x):
    mood = int(x[0])
    if mood == -1: raise ValueError("a bad mood")
    if mood == -2: os._exit(9)
    if mood == -3: time.sleep(3)
    return {"y": 2 * x}
"""
_SEVERAL = "def double(x):\n    return {'y': 2 * x}\n\ndef negate(x):\n    return {'y': -x}\n"


def _echo(types: dict[str, str]) -> tuple[str, dict[str, Any]]:
    code = "def every(**values):\n    return {f'{name}_out': value for name, value in values.items()}\n"
    inputs = {name: {"shape": [-1], "type": kind} for name, kind in types.items()}
    return code, {
        "name": "every",
        "inputs": inputs,
        "outputs": {f"{name}_out": field for name, field in inputs.items()},
    }


MODELS: dict[str, tuple[str, dict[str, Any], str]] = {
    "every": (*_echo({name: name for name in TYPES}), "v2"),
    "oip": (*_echo(OIP_TYPES), "v2"),
    "moody": (_MOODY, {"name": "moody", "inputs": {"x": _INTEGERS}, "outputs": {"y": _INTEGERS}}, "v2"),
    "columns": (
        "def columns(n, t):\n    return {'n': n, 't': t}\n",
        {"name": "columns", "inputs": _COLUMNS, "outputs": _COLUMNS},
        "v2",
    ),
    "several": (
        _SEVERAL,
        {name: {"inputs": {"x": _INTEGERS}, "outputs": {"y": _INTEGERS}} for name in ("double", "negate")},
        "v0",
    ),
}

# Runtimes that a check may disturb are its own: name to model and settings.
RUNTIMES: dict[str, tuple[str, dict[str, str]]] = {
    **{name: (name, {}) for name in MODELS},
    "crashing": ("moody", {}),
    "visited": ("moody", {}),
    "renewed": ("moody", {"MAX_CONNECTION_AGE_SECONDS": "1"}),
}

Start = Callable[..., Program]
Run = Callable[..., str]


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts the runtime of one of MODELS with settings from the environment, and waits until it serves."""
    with ExitStack() as stack:

        def begin(name: str, **environment: str) -> Program:
            code, promise, era = MODELS[name]
            directory = model_directory(tmp_path_factory.mktemp(name), code, promise, era=era)
            program = stack.enter_context(Program(directory, **environment))
            program.wait_serving()
            return program

        yield begin


@pytest.fixture(scope="session")
def targets(start: Start) -> dict[str, str]:
    """Name to HOST:PORT of each of RUNTIMES."""
    return {name: f"localhost:{start(model, **settings).port}" for name, (model, settings) in RUNTIMES.items()}


@pytest.fixture(scope="session")
def run(targets: dict[str, str]) -> Run:
    """Runs a client's program against the runtimes, and returns what it prints."""

    def ran(*command: str) -> str:
        arguments = [f"{name}={target}" for name, target in targets.items()]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=110)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return ran


@pytest.fixture(scope="session")
def python_client(run: Run) -> Callable[[str], dict[str, Any]]:
    """Runs the program of a Python client in the environment of its lock, and returns what its checks found."""

    def found(name: str) -> dict[str, Any]:
        python = locked(PYTHON, HERE / "locks" / f"{name}.txt")
        program = HERE / "python" / f"with_{name.replace('-', '_')}.py"
        return dict(json.loads(run(str(python), str(program)).splitlines()[-1]))

    return found
