"""Hydrosphere's own published software against ours: its clients, its descriptors, and its stubs in the same interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from environments import ROOT, environment
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from model_runtime import protos

STUBS = ("protobuf==3.20.3", "grpcio", "requests")  # what 2.4.0 and 3.0.3 need to be imported at all
PROMISE = {
    "name": "add",
    "inputs": {"a": {"shape": "scalar", "type": "int64"}, "b": {"shape": [-1], "type": "double"}},
    "outputs": {"sum": {"shape": [-1], "type": "double"}},
}
CODE = "def add(a, b):\n    return {'sum': a + b}\n"


def run(python: Path | str, script: str, *arguments: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(python), "-W", "ignore", "-c", script, *arguments], capture_output=True, text=True, timeout=60, env=env
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# Clients ------------------------------------------------------------------------------------------------------------

CLIENT_2 = """
import sys, grpc
import hydro_serving_grpc as hs
from google.protobuf.empty_pb2 import Empty
with grpc.insecure_channel(sys.argv[1]) as channel:
    stub = hs.PredictionServiceStub(channel)
    a = hs.TensorProto(dtype=hs.DT_INT64, int64_val=[3], tensor_shape=hs.TensorShapeProto())
    column = hs.TensorShapeProto(dim=[hs.TensorShapeProto.Dim(size=-1)])
    b = hs.TensorProto(dtype=hs.DT_DOUBLE, double_val=[0.5, 1.5], tensor_shape=column)
    request = hs.PredictRequest(model_spec=hs.ModelSpec(signature_name="add"), inputs={"a": a, "b": b})
    answer = stub.Predict(request, timeout=10).outputs["sum"]
    status = stub.Status(Empty(), timeout=10)
    print(list(answer.double_val), [dim.size for dim in answer.tensor_shape.dim], status.status, status.message)
"""
CLIENT_3 = """
import sys, grpc
from hydro_serving_grpc.serving.contract.tensor_pb2 import Tensor, TensorShape
from hydro_serving_grpc.serving.contract.types_pb2 import DT_DOUBLE, DT_INT64
from hydro_serving_grpc.serving.runtime.api_pb2 import PredictRequest
from hydro_serving_grpc.serving.runtime.api_pb2_grpc import PredictionServiceStub
with grpc.insecure_channel(sys.argv[1]) as channel:
    a = Tensor(dtype=DT_INT64, int64_val=[3], tensor_shape=TensorShape())
    b = Tensor(dtype=DT_DOUBLE, double_val=[0.5, 1.5], tensor_shape=TensorShape(dims=[-1]))
    answer = PredictionServiceStub(channel).Predict(PredictRequest(inputs={"a": a, "b": b}), timeout=10).outputs["sum"]
    print(list(answer.double_val), list(answer.tensor_shape.dims))
"""


def test_a_client_of_2_4_0_calls_predict_and_status(serve: Any) -> None:
    python = environment("3.11", "hydro-serving-grpc==2.4.0", *STUBS)

    assert run(python, CLIENT_2, serve(CODE, PROMISE).target) == "[3.5, 4.5] [2] 1 ok"


def test_a_client_of_3_0_3_calls_predict(serve: Any) -> None:
    python = environment("3.11", "hydro-serving-grpc==3.0.3", *STUBS)

    assert run(python, CLIENT_3, serve(CODE, PROMISE).target) == "[3.5, 4.5] [2]"


# Descriptors --------------------------------------------------------------------------------------------------------

DUMP = """
import importlib, json, pkgutil, sys
import hydro_serving_grpc
found = {}
for module in pkgutil.walk_packages(hydro_serving_grpc.__path__, "hydro_serving_grpc."):
    if module.name.endswith("_pb2") and any(part in module.name for part in (".contract.", ".tf.", ".serving.runtime.")):
        file = importlib.import_module(module.name).DESCRIPTOR
        found[file.name] = file.serialized_pb.hex()
print(json.dumps(found))
"""
VERSIONS = {"v0.0.5": "0.0.5", "v0": "0.2.3", "v2": "2.4.0", "v3": "3.0.3"}


@pytest.mark.parametrize("era", protos.ERAS)
def test_our_protos_are_those_that_were_published(era: str) -> None:
    python = environment("3.11", f"hydro-serving-grpc=={VERSIONS[era]}", *STUBS)
    published = {
        name: FileDescriptorProto.FromString(bytes.fromhex(data))
        for name, data in json.loads(run(python, DUMP)).items()
    }
    ours = {file.name: file for file in protos.files(era)}

    wanted = {name for name in published if "tensor_slice" not in name}  # used by nothing that a runtime sees

    assert {name: shape(ours[name]) for name in wanted} == {name: shape(published[name]) for name in wanted}


def shape(file: FileDescriptorProto) -> dict[str, Any]:
    """What is on the wire and in names: messages' fields, enums' values, services' methods."""
    found: dict[str, Any] = {"package": file.package}
    for message in file.message_type:
        _add_message(found, message.name, message)
    for enum in file.enum_type:
        found[enum.name] = {value.name: value.number for value in enum.value}
    for service in file.service:
        found[service.name] = {method.name: (method.input_type, method.output_type) for method in service.method}
    return found


def _add_message(found: dict[str, Any], name: str, message: Any) -> None:
    fields = {field.number: (field.name, field.label, field.type, field.type_name) for field in message.field}
    found[name] = fields, sorted((reserved.start, reserved.end) for reserved in message.reserved_range)
    for nested in message.nested_type:
        _add_message(found, f"{name}.{nested.name}", nested)
    for enum in message.enum_type:
        found[f"{name}.{enum.name}"] = {value.name: value.number for value in enum.value}


# The same interpreter -----------------------------------------------------------------------------------------------

OURS = "from model_runtime import protos; " + "; ".join(f'protos.pool("{era}")' for era in protos.ERAS)
THEIRS = {
    "2.4.0": "import hydro_serving_grpc as hs; hs.PredictRequest(inputs={'x': hs.TensorProto(dtype=hs.DT_INT64)})",
    "3.0.3": "from hydro_serving_grpc.serving.runtime.api_pb2 import PredictRequest; PredictRequest()",
}


@pytest.mark.parametrize("first", ["ours", "theirs"])
@pytest.mark.parametrize("version", THEIRS)
def test_hydrospheres_own_stubs_load_beside_ours(version: str, first: str) -> None:
    python = environment("3.11", f"hydro-serving-grpc=={version}", *STUBS)
    imports = [OURS, THEIRS[version]] if first == "ours" else [THEIRS[version], OURS]

    run(python, f"import sys; sys.path.append({str(ROOT / 'runtime')!r})\n" + "\n".join(imports))


def test_nothing_of_ours_enters_the_default_pool() -> None:
    script = f"""
import sys
sys.path.append({str(ROOT / "runtime")!r})
from model_runtime import protos
from model_runtime.model import hydro
protos.reflection_files(); protos.pool("served"); hydro.install()
import hydro_serving_grpc
from google.protobuf import descriptor_pool
for name in ("hydrosphere.tensorflow.TensorProto", "hydrosphere.serving.contract.Tensor", "model_runtime.v1.GetContractResponse"):
    try:
        descriptor_pool.Default().FindMessageTypeByName(name)
    except KeyError:
        continue
    sys.exit(name + " is in the default pool")
"""
    run(sys.executable, script)


# Models' environments -----------------------------------------------------------------------------------------------

USES_STUBS = f"""
import sys
sys.path.append({str(ROOT / "runtime")!r})
from model_runtime.model import hydro
hydro.install()
import hydro_serving_grpc as hs
from hydro_serving_grpc.tf.api.predict_pb2 import PredictResponse
from hydro_serving_grpc.serving.contract.tensor_pb2 import Tensor
x = hs.TensorProto(dtype=hs.DT_INT64, int64_val=[1], tensor_shape=hs.TensorShapeProto(dim=[hs.TensorShapeProto.Dim(size=1)]))
answer = PredictResponse(outputs={{"y": x}})
assert hs.PredictResponse is PredictResponse is hydro.response_class("v2")
assert hydro.is_response(answer) and hydro.is_tensor(x) and hydro.is_tensor(Tensor())
print(answer.SerializeToString(deterministic=True).hex(), "__file__" in vars(hs))
"""


@pytest.mark.parametrize(
    ("python", "protobuf"), [("3.8", "3.20.3"), ("3.9", "4.25.3"), ("3.11", "5.29.5"), ("3.13", "7.35.1")]
)
def test_models_find_hydrospheres_names_with_any_protobuf(python: str, protobuf: str) -> None:
    printed = run(environment(python, "numpy", f"protobuf=={protobuf}"), USES_STUBS)

    data, real = printed.split()
    answer = protos.message("v2", "hydrosphere.tensorflow.serving.PredictResponse").FromString(bytes.fromhex(data))
    assert list(answer.outputs["y"].int64_val) == [1]
    assert real == "False"


def test_the_real_package_is_used_where_a_model_brings_it() -> None:
    python = environment("3.11", "hydro-serving-grpc==2.4.0", "numpy", *STUBS)
    script = USES_STUBS.replace(
        "from hydro_serving_grpc.serving.contract.tensor_pb2 import Tensor", "Tensor = hs.TensorProto"
    )

    assert run(python, script).endswith("True")


def test_an_environment_without_protobuf_is_told_what_to_add() -> None:
    script = f"""
import sys
sys.path.append({str(ROOT / "runtime")!r})
from model_runtime.model import hydro
hydro.install()
try:
    import hydro_serving_grpc
except ImportError as error:
    print(error)
"""
    assert "add protobuf to its requirements" in run(environment("3.11", "numpy"), script)
