"""Go, Node.js and Java clients, compiled with the stubs of `make stubs`, against real runtimes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import foreign
import pytest

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]
Found = dict[str, Any]
Run = Callable[..., str]

# Go -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def go(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Found:
    return dict(json.loads(run(*foreign.go(tmp_path_factory.mktemp("go")))))


def test_go_asks_for_health(go: Found) -> None:
    assert go["health"] == {
        "": "SERVING",
        "tensorflow.serving.PredictionService": "SERVING",
        "no.such.Service": "NotFound",
    }


def test_go_predicts_with_the_stubs_of_every_era(go: Found) -> None:
    assert go["predict in every era"] == {"v2": "OK", "v3": ["OK", [42]], "open inference": ["OK", [42]]}


def test_go_chooses_a_signature(go: Found) -> None:
    assert go["several signatures"] == {"double": [4], "negate": [-2], "gone": "InvalidArgument"}


def test_go_sees_what_is_wrong(go: Found) -> None:
    assert go["errors"] == {
        "contract": "InvalidArgument",
        "fields": ["inputs.z"],
        "model": "Internal",
        "deadline": "DeadlineExceeded",
    }


def test_go_with_health_checks_and_round_robin_lives_through_a_restart_of_the_model(go: Found) -> None:
    assert go["health-checked restart"] == {"before": "OK", "crash": "Internal", "after": {}}


def test_go_with_a_retry_policy_loses_no_call_to_crashes_of_others(go: Found) -> None:
    assert go["retries"] == {"crashes": {"Internal": 3}, "lost": [], "after": 4}


def test_go_loses_no_call_when_its_connection_is_renewed(go: Found) -> None:
    assert go["renewals"] == {"lost": [], "calls": True}


def test_go_clients_with_health_checks_may_come_and_go(go: Found) -> None:
    assert go["come and go"] == {"failed": 0, "afterwards": "OK"}


# Node.js --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Found:
    return dict(json.loads(run(*foreign.typescript(tmp_path_factory.mktemp("typescript")))))


def test_node_predicts_without_rounding_64_bits(node: Found) -> None:
    assert node["predictions"] == [["42"], [str(2 * (2**62 - 1))]]


def test_node_speaks_the_open_inference_protocol(node: Found) -> None:
    assert node["open inference"] == ["OK", ["42"]]


def test_node_chooses_a_signature(node: Found) -> None:
    assert node["signatures"] == [["4"], ["-2"], "INVALID_ARGUMENT"]


def test_node_sees_what_is_wrong(node: Found) -> None:
    assert node["errors"] == {
        "contract": "INVALID_ARGUMENT",
        "detailed": True,
        "model": "INTERNAL",
        "deadline": "DEADLINE_EXCEEDED",
    }


def test_node_loses_no_call_when_its_connection_is_renewed(node: Found) -> None:
    assert node["renewals"] == {"lost": [], "calls": True}


# Java -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def java(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Found:
    lines = run(*foreign.java(tmp_path_factory.mktemp("java"))).splitlines()
    return dict(line.split(": ", 1) for line in lines)


@pytest.mark.parametrize(
    ("check", "result"),
    [
        ("health", "SERVING"),
        ("predict", "[42]"),
        ("double", "[4]"),
        ("negate", "[-2]"),
        ("gone", "INVALID_ARGUMENT [model_spec.signature_name]"),
        ("contract", "INVALID_ARGUMENT [inputs.x, inputs.z]"),
        ("model", "INTERNAL []"),
        ("deadline", "DEADLINE_EXCEEDED []"),
        ("open inference", "[42]"),
        ("renewals", "[]"),
    ],
)
def test_java_gets_what_it_should(java: Found, check: str, result: str) -> None:
    assert java[check] == result
