"""The control plane under clients that stall, leave and lie: it answers at once, holds nothing, and lets the server stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attacks
import grpc
import numpy as np
import pytest
from attacks import CHECK, MODEL, PREDICT, REFLECT, WATCH, Connection, frame
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from serving import Program, model_directory

from model_runtime import tensors
from model_runtime.client import Client
from model_runtime.protos import files
from model_runtime.server.health import Health, Status
from model_runtime.supervisor.host import HostState, Phase

X = {"x": tensors.tensor(np.array([1.0]))}
SLOW = "import time\n\ndef echo(x):\n    time.sleep(0.05)\n    return {'y': x}\n"
PROBES = {
    "Check": (CHECK, b""),
    "List": ("/grpc.health.v1.Health/List", b""),
    "Status": ("/tensorflow.serving.PredictionService/Status", b""),
    "ServerLive": ("/inference.GRPCInferenceService/ServerLive", b""),
    "ServerReady": ("/inference.GRPCInferenceService/ServerReady", b""),
    "ModelMetadata": ("/inference.GRPCInferenceService/ModelMetadata", b""),
    "GetContract": ("/model_runtime.v1.ContractService/GetContract", b""),
}
SOON = 0.1


def port_of(client: Client) -> int:
    return int(client.target.rpartition(":")[2])


def slowest_probe(client: Client, rounds: int = 5) -> dict[str, float]:
    """The quickest of a few rounds for each probe: a neighbour of the machine may slow one, a queue slows all."""
    seconds: dict[str, list[float]] = {name: [] for name in (*PROBES, "reflection")}
    for _ in range(rounds):
        for name, (path, request) in PROBES.items():
            began = time.monotonic()
            client.channel.unary_unary(path)(request, timeout=5)
            seconds[name].append(time.monotonic() - began)
        began = time.monotonic()
        reflected(client.channel, reflection_pb2.ServerReflectionRequest(list_services="*"))
        seconds["reflection"].append(time.monotonic() - began)
    return {name: min(times) for name, times in seconds.items()}


def reflected(
    channel: grpc.Channel, *requests: reflection_pb2.ServerReflectionRequest, version: str = "v1"
) -> list[reflection_pb2.ServerReflectionResponse]:
    path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    call = channel.stream_stream(path)((request.SerializeToString() for request in requests), timeout=5)
    return [reflection_pb2.ServerReflectionResponse.FromString(answer) for answer in call]


@contextmanager
def saturated(client: Client, clients: int = 16) -> Iterator[None]:
    """More predictions than the model can answer, until the block ends."""
    stop = threading.Event()

    def call() -> None:
        with Client(client.target, timeout=30) as own:
            while not stop.is_set():
                own.predict(X)

    threads = [threading.Thread(target=call) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


# Health --------------------------------------------------------------------------------------------------------------


def test_eight_health_checking_clients_that_come_and_go_freeze_nothing(serve: Any) -> None:
    client = serve()
    request = tensors.encode_request(tensors.ERAS["v2"], tensors.Request(X))
    failures: list[grpc.RpcError] = []

    def come_and_go() -> None:
        for _ in range(12):
            with attacks.health_checking_channel(port_of(client)) as channel:
                try:
                    channel.unary_unary(PREDICT)(request, timeout=20, wait_for_ready=True)
                except grpc.RpcError as error:
                    failures.append(error)

    threads = [threading.Thread(target=come_and_go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    began = time.monotonic()
    client.runtime.stop()
    assert time.monotonic() - began < 3


def test_watchers_that_do_not_read_delay_neither_changes_nor_others(serve: Any) -> None:
    client = serve()
    health: Health = client.runtime._health
    with attacks.watches(port_of(client), [MODEL] * 50, window=1):
        seen = health_pb2_grpc.HealthStub(client.channel).Watch(
            health_pb2.HealthCheckRequest(service=MODEL), timeout=20
        )
        assert next(seen).status == Status.SERVING
        for _ in range(20):
            health.update(HostState(Phase.LOADING, "again"))
            assert next(seen).status == Status.NOT_SERVING
            health.update(HostState(Phase.SERVING, "ok"))
            assert next(seen).status == Status.SERVING
        assert client.predict(X)["y"].tolist() == [1.0]
    seen.cancel()


def test_a_watch_of_an_unknown_name_says_so_and_leaves_nothing_behind(serve: Any) -> None:
    client = serve()
    health: Health = client.runtime._health
    names = [f"no.such.Service{number}" for number in range(200)]
    with attacks.watches(port_of(client), names) as connections:
        for connection in connections:
            until = time.monotonic() + 10
            while len(connection.messages) < 100 and time.monotonic() < until:
                connection.read(0.1)
            assert set(map(bytes, connection.messages.values())) == {frame(b"\x08\x03")}  # SERVICE_UNKNOWN
        assert health.watching == 0
    assert eventually(lambda: not client.runtime._executor.open)


def test_a_watcher_that_leaves_is_forgotten(serve: Any) -> None:
    client = serve()
    health: Health = client.runtime._health
    with attacks.watches(port_of(client), [MODEL] * 100):
        assert eventually(lambda: health.watching == 100)
    assert eventually(lambda: health.watching == 0)
    assert eventually(lambda: not client.runtime._executor.open)


def test_a_slow_watcher_hears_the_last_status_and_not_those_between() -> None:
    health = Health()
    told: list[Status] = []
    subscription = health.watch(MODEL, lambda: told.append(subscription.status))
    health.update(HostState(Phase.SERVING, "ok"))
    health.drain()
    health.update(HostState(Phase.SERVING, "too late"))
    subscription.close()
    health.update(HostState(Phase.LOADING, "nobody hears this"))

    assert told == [Status.SERVING, Status.NOT_SERVING]
    assert subscription.status is Status.NOT_SERVING


def test_a_watcher_that_raises_costs_the_others_nothing() -> None:
    health = Health()
    told: list[str] = []

    def broken() -> None:
        raise RuntimeError("broken")

    for changed in (broken, lambda: told.append("told"), broken):
        health.watch(MODEL, changed)
    health.update(HostState(Phase.SERVING, "ok"))

    assert told == ["told"]


def test_a_process_that_has_come_to_a_halt_is_told_to_those_who_watch_it(serve: Any) -> None:
    client = serve()
    seen = health_pb2_grpc.HealthStub(client.channel).Watch(health_pb2.HealthCheckRequest(service=""), timeout=20)
    assert next(seen).status == Status.SERVING

    client.runtime._health.is_alive = lambda: False

    assert next(seen).status == Status.NOT_SERVING
    seen.cancel()


@pytest.mark.parametrize("path", [CHECK, WATCH, "/inference.GRPCInferenceService/ModelMetadata", REFLECT])
def test_bytes_that_are_no_request_are_refused(serve: Any, path: str) -> None:
    with Connection(port_of(serve())) as connection:
        stream = connection.begin(path)
        connection.send(stream, frame(b"\xff\xff\xff"), end=True)

        assert connection.ending(stream)["grpc-status"] == str(grpc.StatusCode.INVALID_ARGUMENT.value[0])


@pytest.mark.parametrize("path", [CHECK, WATCH])
def test_a_call_that_ends_without_its_message_is_refused(serve: Any, path: str) -> None:
    with Connection(port_of(serve())) as connection:
        stream = connection.begin(path)
        connection.h2.end_stream(stream)
        connection.flush()

        assert connection.ending(stream)["grpc-status"] in ("3", "12")


# Probes --------------------------------------------------------------------------------------------------------------


def test_probes_answer_at_once_beside_a_thousand_streams_half_sent_calls_and_saturated_predictions(serve: Any) -> None:
    client = serve(SLOW)
    port = port_of(client)
    with ExitStack() as stack:
        stack.enter_context(attacks.watches(port, [MODEL, "liveness", "unknown", ""] * 125))
        stack.enter_context(attacks.half_open(port, REFLECT, 500))
        stack.enter_context(attacks.half_open(port, CHECK, 50))
        stack.enter_context(attacks.half_open(port, "/tensorflow.serving.PredictionService/Status", 50))
        stack.enter_context(attacks.half_open(port, PREDICT, 100))
        stack.enter_context(saturated(client))

        assert {name: seconds for name, seconds in slowest_probe(client).items() if seconds > SOON} == {}


def test_more_half_sent_calls_than_there_are_places_starve_nobody(serve: Any) -> None:
    client = serve()
    with attacks.half_open(port_of(client), CHECK, 1500), attacks.half_open(port_of(client), PREDICT, 1500):
        assert max(slowest_probe(client).values()) < SOON
        assert client.predict(X)["y"].tolist() == [1.0]
        assert len(client.runtime._bounds.control) <= 1000
        assert len(client.runtime._bounds.predictions) <= 1000
    assert eventually(lambda: not client.runtime._executor.open)


def test_a_half_sent_call_that_is_driven_out_hears_why(serve: Any) -> None:
    client = serve(max_streams=2000)
    with Connection(port_of(client)) as connection:
        streams = [connection.begin(PREDICT) for _ in range(1001)]
        connection.flush()

        ending = connection.ending(streams[0])

    assert ending["grpc-status"] == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    assert "wait for their messages" in ending["grpc-message"]


@pytest.mark.parametrize("path", [PREDICT, CHECK, REFLECT])
def test_a_request_that_does_not_arrive_in_time_is_ended(serve: Any, path: str) -> None:
    client = serve(transfer_timeout=0.5)
    with Connection(port_of(client)) as connection:
        stream = connection.begin(path)
        connection.send(stream, frame(b"\0" * 10, announced=1000))

        ending = connection.ending(stream)

    assert ending["grpc-status"] == str(grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
    assert "TRANSFER_TIMEOUT" in ending["grpc-message"]


def test_streams_end_at_the_age_of_their_connection(serve: Any) -> None:
    client = serve(max_connection_age_seconds=1.0)
    with attacks.watches(port_of(client), [MODEL, "unknown"]) as [connection]:
        endings = [connection.ending(stream) for stream in (1, 3)]

        assert [ending["grpc-status"] for ending in endings] == [str(grpc.StatusCode.UNAVAILABLE.value[0])] * 2
        assert connection.wait_closed(5)


# The stop ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [None, 1])
def test_open_streams_and_half_sent_calls_delay_no_stop(tmp_path: Path, window: int | None) -> None:
    with Program(model_directory(tmp_path), GRACE_SECONDS="25") as program, ExitStack() as stack:
        program.wait_serving()
        stack.enter_context(attacks.watches(program.port, [MODEL, "", "unknown"] * 10, window=window))
        stack.enter_context(attacks.half_open(program.port, REFLECT, 10))
        stack.enter_context(attacks.half_open(program.port, CHECK, 10))
        stack.enter_context(attacks.half_open(program.port, PREDICT, 10))
        time.sleep(0.2)
        began = time.monotonic()
        program.terminate()
        status, _ = program.end(20)

    assert status == 0
    assert time.monotonic() - began < 5


# Reflection ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_of_either_version_describes_every_method(serve: Any, version: str) -> None:
    channel = serve().channel
    [listed] = reflected(channel, reflection_pb2.ServerReflectionRequest(list_services=""), version=version)
    names = [service.name for service in listed.list_services_response.service]
    asked = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in names]
    asked += [
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=f"google.rpc.{name}")
        for name in ("ErrorInfo", "BadRequest", "BadRequest.FieldViolation", "Status")
    ]

    answers = reflected(channel, *asked, version=version)

    described: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    for answer in answers:
        for data in answer.file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(data)
            described[file.name] = file
    pool = descriptor_pool.DescriptorPool()
    add_all(pool, described)
    assert "inference.GRPCInferenceService" in names
    assert {f"grpc.reflection.{each}.ServerReflection" for each in ("v1", "v1alpha")} < set(names)
    for name in names:
        for method in pool.FindServiceByName(name).methods:
            assert method.input_type is not None
    assert pool.FindMessageTypeByName("google.rpc.BadRequest").fields_by_name["field_violations"].number == 1


def add_all(pool: descriptor_pool.DescriptorPool, described: dict[str, descriptor_pb2.FileDescriptorProto]) -> None:
    added: set[str] = set()

    def add(name: str) -> None:
        if name not in added:
            added.add(name)
            for imported in described[name].dependency:
                add(imported)
            pool.Add(described[name])

    for name in described:
        add(name)


def test_both_versions_of_reflection_are_what_the_published_package_describes() -> None:
    published = descriptor_pb2.FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    own = {file.package: file for file in files("served")}
    for package in ("grpc.reflection.v1", "grpc.reflection.v1alpha"):
        for message, known in zip(own[package].message_type, sorted_like(published, own[package]), strict=True):
            assert [(field.name, field.number, field.type) for field in message.field] == [
                (field.name, field.number, field.type) for field in known.field
            ]


def sorted_like(published: Any, own: Any) -> list[Any]:
    by_name = {message.name: message for message in published.message_type}
    return [by_name[message.name] for message in own.message_type]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"file_by_filename": "no/such.proto"}, 5),
        ({"file_containing_symbol": "no.such.Symbol"}, 5),
        ({"all_extension_numbers_of_type": "no.such.Message"}, 5),
        (
            {
                "file_containing_extension": {
                    "containing_type": "grpc.health.v1.HealthCheckRequest",
                    "extension_number": 7,
                }
            },
            5,
        ),
        ({}, 3),
    ],
)
def test_what_reflection_does_not_know_it_says_and_goes_on(serve: Any, asked: dict[str, Any], code: int) -> None:
    unknown = reflection_pb2.ServerReflectionRequest(host="here", **asked)
    known = reflection_pb2.ServerReflectionRequest(file_by_filename="google/rpc/status.proto")

    answers = reflected(serve().channel, unknown, known)

    assert answers[0].error_response.error_code == code
    assert answers[0].original_request == unknown
    assert answers[0].valid_host == "here"
    names = [
        descriptor_pb2.FileDescriptorProto.FromString(data).name
        for data in answers[1].file_descriptor_response.file_descriptor_proto
    ]
    assert names[0] == "google/rpc/status.proto"
    assert "google/protobuf/any.proto" in names


def test_reflection_knows_methods_fields_and_files() -> None:
    from model_runtime import protos
    from model_runtime.server.reflection import Reflection

    reflection = Reflection(protos.reflection_files())
    for symbol in (
        "tensorflow.serving.PredictionService.Predict",
        "hydrosphere.tensorflow.TensorProto",
        "hydrosphere.tensorflow.TensorProto.dtype",
        "hydrosphere.tensorflow.TensorShapeProto.Dim",
        "hydrosphere.tensorflow.DT_FLOAT",
        "grpc.health.v1.HealthCheckResponse.ServingStatus",
    ):
        asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
        answer = reflection_pb2.ServerReflectionResponse.FromString(reflection.answer(asked.SerializeToString()))
        assert answer.file_descriptor_response.file_descriptor_proto, symbol


def eventually(is_so: Callable[[], bool], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if is_so():
            return True
        time.sleep(0.05)
    return is_so()
