"""What generic clients find on the port: health in all its names, reflection with the true ones."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from serving import ECHO_CONTRACT

from model_runtime import contract, tensors
from model_runtime.server.health import MODEL_NAMES, PROCESS_NAMES

X = {"x": tensors.tensor(np.array([1.0]))}
SERVICES = {
    "hydrosphere.tensorflow.serving.PredictionService",
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
    "hydrosphere.serving.runtime.PredictionService",
    "inference.GRPCInferenceService",
    "model_runtime.v1.ContractService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
}


@pytest.mark.parametrize("name", [*PROCESS_NAMES, *MODEL_NAMES])
def test_health_knows_every_customary_name(serve: Any, name: str) -> None:
    assert serve().health(name) == "SERVING"


def test_health_of_an_unknown_service_is_not_found(serve: Any) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        serve().health("no.such.Service")

    assert failure.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_lists_every_name_with_its_status(serve: Any) -> None:
    stub = health_pb2_grpc.HealthStub(serve().channel)

    listed = stub.List(health_pb2.HealthListRequest(), timeout=5).statuses

    assert {name: status.status for name, status in listed.items()} == dict.fromkeys([*PROCESS_NAMES, *MODEL_NAMES], 1)


def test_reflection_shows_every_service_under_its_true_name(serve: Any) -> None:
    database = ProtoReflectionDescriptorDatabase(serve().channel)

    assert set(database.get_services()) == SERVICES


def test_a_client_that_knows_nothing_can_build_a_request_from_reflection(serve: Any) -> None:
    pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(serve().channel))

    methods = {
        service: sorted(method.name for method in pool.FindServiceByName(service).methods)
        for service in sorted(SERVICES)
    }

    assert methods["tensorflow.serving.PredictionService"] == ["GetModelMetadata", "Predict", "Status"]
    assert methods["hydrosphere.serving.runtime.PredictionService"] == ["Predict"]
    request = pool.FindMessageTypeByName("hydrosphere.tensorflow.serving.PredictRequest")
    assert request.fields_by_name["inputs"].number == 2


def test_the_contract_can_be_asked_for(serve: Any) -> None:
    assert serve().contract().signatures == contract.parse(ECHO_CONTRACT).signatures
