"""Stubs for other languages, as `make stubs` makes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from environments import ROOT

SCRIPT = ROOT / "runtime" / "proto" / "stubs.py"


def stubs(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=60)


def test_python_stubs_speak_the_protocol(tmp_path: Path) -> None:
    made = stubs("python", "--era", "v3", "--output", str(tmp_path))
    use = (
        "from hydro_serving_grpc.serving.runtime import api_pb2, api_pb2_grpc\n"
        "assert hasattr(api_pb2_grpc, 'PredictionServiceStub') and hasattr(api_pb2_grpc, 'PredictionServiceServicer')\n"
        "request = api_pb2.PredictRequest()\nrequest.inputs['a'].dtype = 3\nrequest.inputs['a'].tensor_shape.SetInParent()\n"
        "request.inputs['a'].int_val.append(3)\nprint(request.SerializeToString().hex())\n"
    )
    assert made.returncode == 0, made.stderr
    used = subprocess.run([sys.executable, "-c", use], cwd=tmp_path / "python", capture_output=True, text=True)

    assert used.stdout.strip() == "0a0c0a01611207080312003a0103", used.stderr  # the published golden vector


def test_a_missing_plugin_is_named_with_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    made = stubs("java")

    assert made.returncode == 1
    assert made.stderr.strip() == (
        "protoc-gen-grpc-java is not on the PATH; it comes from the Maven artifact io.grpc:protoc-gen-grpc-java"
    )


def test_languages_and_eras_are_listed() -> None:
    assert "python, go, java" in stubs("--list").stdout
