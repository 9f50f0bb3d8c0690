"""Stubs for other languages, as `make stubs` makes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from environments import ROOT

SCRIPT = ROOT / "runtime" / "proto" / "stubs.py"


def stubs(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=300)


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


def test_a_missing_tool_is_named_with_what_brings_it(tmp_path: Path) -> None:
    empty = {"PATH": "/nowhere", "XDG_CACHE_HOME": str(tmp_path)}
    for language, tool in (("java", "mvn"), ("typescript", "npm")):
        command = [sys.executable, str(SCRIPT), language, "--output", str(tmp_path)]
        made = subprocess.run(command, capture_output=True, text=True, timeout=60, env=empty)

        assert made.returncode == 1
        assert made.stderr.startswith(f"stubs: {tool} is not on the PATH: install ")
        assert len(made.stderr.splitlines()) == 1


def test_languages_and_eras_are_listed() -> None:
    listed = stubs("--list").stdout

    assert "LANG: python, go, java, typescript\n" in listed
    assert "v2, v3, open_inference, served (v2 and v3 where none is given)" in listed


def test_a_language_without_generators_is_refused_with_those_that_have_them() -> None:
    made = stubs("cobol")

    assert made.returncode == 2
    assert "choose from" in made.stderr
    assert "typescript" in made.stderr


@pytest.mark.clients
@pytest.mark.timeout(600)
@pytest.mark.parametrize("language", ["python", "go", "java", "typescript"])
@pytest.mark.parametrize("era", ["v0.0.5", "v0", "v2", "v3", "open_inference", "served"])
def test_every_language_has_stubs_of_every_era(tmp_path: Path, language: str, era: str) -> None:
    """That they compile and call is shown in tests/clients."""
    made = stubs(language, "--era", era, "--output", str(tmp_path))

    assert made.returncode == 0, made.stderr
    suffix = {"python": "*_pb2_grpc.py", "go": "*_grpc.pb.go", "java": "*Grpc.java", "typescript": "*.ts"}[language]
    assert list((tmp_path / language).rglob(suffix))
