"""The tools that people reach for first: grpcurl, grpc-health-probe and ghz, against real runtimes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from cluster import binaries

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

PREDICT = "tensorflow.serving.PredictionService/Predict"
REQUEST = '{"inputs": {"x": {"dtype": "DT_INT64", "tensor_shape": {"dim": [{"size": 1}]}, "int64_val": [%d]}}}'


@pytest.fixture(scope="module")
def tools() -> dict[str, Path]:
    return binaries.find(["grpcurl", "grpc-health-probe", "ghz"])


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=110)


# grpcurl, which knows the runtime by its reflection alone ----------------------------------------------------------------


def test_grpcurl_lists_and_describes(tools: dict[str, Path], targets: dict[str, str]) -> None:
    listed = run(tools["grpcurl"], "-plaintext", targets["moody"], "list").stdout.split()
    described = run(tools["grpcurl"], "-plaintext", targets["moody"], "describe", PREDICT.replace("/", ".")).stdout

    assert {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "hydrosphere.serving.runtime.PredictionService",
        "hydrosphere.tensorflow.serving.PredictionService",
        "inference.GRPCInferenceService",
        "model_runtime.v1.ContractService",
        "tensorflow.serving.PredictionService",
    } <= set(listed)
    assert "rpc Predict" in described
    assert ".hydrosphere.tensorflow.serving.PredictRequest" in described


def test_grpcurl_describes_every_service_that_it_lists(tools: dict[str, Path], targets: dict[str, str]) -> None:
    for service in run(tools["grpcurl"], "-plaintext", targets["moody"], "list").stdout.split():
        described = run(tools["grpcurl"], "-plaintext", targets["moody"], "describe", service)
        assert described.returncode == 0, described.stderr
        assert "rpc " in described.stdout


def test_grpcurl_predicts(tools: dict[str, Path], targets: dict[str, str]) -> None:
    done = run(tools["grpcurl"], "-plaintext", "-d", REQUEST % 21, targets["moody"], PREDICT)

    assert json.loads(done.stdout)["outputs"]["y"]["int64_val"] == ["42"], done.stderr


def test_grpcurl_shows_an_errors_details_in_words(tools: dict[str, Path], targets: dict[str, str]) -> None:
    wrong = (REQUEST % 21).replace('"x"', '"z"')

    done = run(tools["grpcurl"], "-plaintext", "-d", wrong, targets["moody"], PREDICT)

    assert done.returncode == 64 + 3  # INVALID_ARGUMENT
    assert "inputs.z" in done.stderr
    assert "google.rpc.BadRequest" in done.stderr
    assert '"field": "inputs.z"' in done.stderr  # base64 where the type is not known by reflection


def test_grpcurl_keeps_its_deadline(tools: dict[str, Path], targets: dict[str, str]) -> None:
    done = run(tools["grpcurl"], "-plaintext", "-max-time", "0.5", "-d", REQUEST % -3, targets["moody"], PREDICT)

    assert done.returncode == 64 + 4  # DEADLINE_EXCEEDED


# grpc-health-probe: what pods of other charts run ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "status"),
    [
        ("", 0),
        ("tensorflow.serving.PredictionService", 0),
        ("inference.GRPCInferenceService", 0),
        ("no.such.Service", 3),
    ],
)
def test_health_probe_reads_each_service(
    tools: dict[str, Path], targets: dict[str, str], service: str, status: int
) -> None:
    done = run(tools["grpc-health-probe"], f"-addr={targets['moody']}", f"-service={service}")

    assert done.returncode == status, done.stderr


# ghz: a load --------------------------------------------------------------------------------------------------------------


def test_ghz_calls_two_thousand_times_without_an_error(tools: dict[str, Path], targets: dict[str, str]) -> None:
    load = ("-n", "2000", "-c", "20", "--connections", "4", "-O", "json")

    done = run(tools["ghz"], "--insecure", "--call", PREDICT, "-d", REQUEST % 21, *load, targets["moody"])

    report = json.loads(done.stdout)
    assert report["statusCodeDistribution"] == {"OK": 2000}
