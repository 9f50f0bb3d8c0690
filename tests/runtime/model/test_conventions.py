"""Calling user code as every era did, recognised without configuration."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from model_runtime import tensors
from model_runtime.contract import DataType
from model_runtime.protocols import PROTOCOLS

PROMISE = {
    "name": "twice",
    "inputs": {"x": {"shape": [-1], "type": "int64"}},
    "outputs": {"y": {"shape": [-1], "type": "int64"}},
}
X = {"x": tensors.tensor([1, 2], DataType.INT64)}

OLD = """
import hydro_serving_grpc as hs

def twice(x):
    assert type(x).__name__ == "TensorProto", type(x)
    y = hs.TensorProto(dtype=hs.DT_INT64, int64_val=[2 * value for value in x.int64_val], tensor_shape=x.tensor_shape)
    return hs.PredictResponse(outputs={"y": y})
"""
DEEP_IMPORTS = """
from hydro_serving_grpc.tf.api.predict_pb2 import PredictResponse
from hydro_serving_grpc.tf.tensor_pb2 import TensorProto
from hydro_serving_grpc.tf.tensor_shape_pb2 import TensorShapeProto
from hydro_serving_grpc.tf.types_pb2 import DT_INT64, DataType
from hydro_serving_grpc.contract import ModelContract

def twice(x):
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=len(x.int64_val))])
    assert DataType.Name(x.dtype) == "DT_INT64"
    return PredictResponse(outputs={"y": TensorProto(dtype=DT_INT64, int64_val=[2 * v for v in x.int64_val], tensor_shape=shape)})
"""
NUMPY_IN_MESSAGE_OUT = """
from hydro_serving_grpc.tf import TensorProto, DT_INT64

def twice(x):
    assert type(x).__name__ == "ndarray", type(x)
    return {"y": TensorProto(dtype=DT_INT64, int64_val=(2 * x).tolist())}
"""
V3_TENSOR_OUT = """
from hydro_serving_grpc.serving.contract.tensor_pb2 import Tensor, TensorShape
from hydro_serving_grpc.serving.contract.types_pb2 import DT_INT64

def twice(x):
    return {"y": Tensor(dtype=DT_INT64, int64_val=(2 * x).tolist(), tensor_shape=TensorShape(dims=[-1]))}
"""
NUMPY = "def twice(x):\n    x *= 2\n    return {'y': x}\n"  # in place: Hydrosphere's arrays could be written to
ASYNC_OLD = OLD.replace("def twice", "async def twice")


@pytest.mark.parametrize("era", ["0.0.5", "v2", "v3"])
@pytest.mark.parametrize("code", [OLD, DEEP_IMPORTS, NUMPY_IN_MESSAGE_OUT, V3_TENSOR_OUT, NUMPY, ASYNC_OLD])
def test_models_of_every_convention_answer_clients_of_every_era(serve: Any, code: str, era: str) -> None:
    answer = serve(code, PROMISE).predict(X, protocol=PROTOCOLS[era])

    assert answer["y"].tolist() == [2, 4]


def test_a_response_made_in_a_module_of_the_models_own_is_noticed(serve: Any, tmp_path: Any) -> None:
    source = tmp_path / "model" / "files" / "src"
    source.mkdir(parents=True)
    (source / "old_answers.py").write_text(
        "import hydro_serving_grpc as hs\n\ndef answer(y):\n    return hs.PredictResponse(outputs={'y': y})\n"
    )
    code = """
    from old_answers import answer

    def twice(x):
        x.int64_val[:] = [2 * value for value in x.int64_val]
        return answer(x)
    """

    assert serve(code, PROMISE).predict(X)["y"].tolist() == [2, 4]


def test_the_convention_can_be_set_where_the_code_misleads(serve: Any) -> None:
    code = "PredictResponse = 'only a name'\n\ndef twice(x):\n    return {'y': x * 2}\n"

    assert serve(code, PROMISE, convention="numpy").predict(X)["y"].tolist() == [2, 4]


def test_a_message_with_values_that_do_not_fit_its_shape_is_the_models_fault(serve: Any) -> None:
    code = OLD.replace("[2 * value for value in x.int64_val]", "[1, 2, 3]")

    with pytest.raises(grpc.RpcError, match=r"outputs.y: expected 2 values for shape \[2\], got 3") as failure:
        serve(code, PROMISE).predict(X)

    assert failure.value.code() is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(
    ("promise", "value", "expected"),
    [
        ({"shape": "scalar", "type": "double"}, 1.5, "float64"),
        ({"shape": "scalar", "type": "string"}, "text", "str"),
        ({"shape": "scalar", "type": "bool"}, True, "bool"),
        ({"shape": [-1], "type": "string"}, ["a", "bc"], "ndarray"),
        ({"shape": "scalar", "type": "string", "profile": "image"}, b"\xff\xd8", "bytes"),
        ({"shape": [-1], "type": "string", "profile": "image"}, [b"\xff\xd8"], "ndarray"),
    ],
)
def test_functions_receive_what_hydrosphere_gave_them(serve: Any, promise: Any, value: Any, expected: str) -> None:
    code = "def kind(x):\n    return {'y': type(x).__name__}\n"
    contract = {"name": "kind", "inputs": {"x": promise}, "outputs": {"y": {"shape": "scalar", "type": "string"}}}
    dtype = DataType[promise["type"].upper()]

    answer = serve(code, contract).predict({"x": tensors.tensor(value, dtype)})

    assert answer["y"].rstrip("_") == expected  # numpy 1 says bool_


def test_a_nested_field_is_a_dict_and_an_array_of_them_an_array(serve: Any) -> None:
    person = {"name": {"shape": "scalar", "type": "string"}, "age": {"shape": "scalar", "type": "int32"}}
    promise = {
        "name": "older",
        "inputs": {"people": {"shape": [-1], "fields": person}, "boss": {"shape": "scalar", "fields": person}},
        "outputs": {"people": {"shape": [-1], "fields": person}, "oldest": {"shape": "scalar", "fields": person}},
    }
    code = """
    def older(people, boss):
        for person in people:
            person["age"] += 1
        return {"people": list(people), "oldest": max([*people, boss], key=lambda person: person["age"])}
    """

    def entry(name: str, age: int) -> dict[str, Any]:
        return {"name": tensors.tensor(name), "age": tensors.tensor(age, DataType.INT32)}

    people = tensors.map_tensor((2,), [entry("Ada", 36), entry("Alan", 41)])
    boss = tensors.map_tensor((), [entry("Grace", 30)])

    answer = serve(code, promise).predict({"people": people, "boss": boss})

    assert [(person["name"], int(person["age"])) for person in answer["people"]] == [("Ada", 37), ("Alan", 42)]
    assert answer["oldest"]["name"] == "Alan"


def test_a_wrong_value_deep_inside_is_told_with_its_path(serve: Any) -> None:
    person = {"name": {"shape": "scalar", "type": "string"}}
    promise = {
        "name": "f",
        "inputs": {"people": {"shape": [-1], "fields": person}},
        "outputs": {"y": {"type": "int64"}},
    }
    people = tensors.map_tensor((2,), [{"name": tensors.tensor("Ada")}, {"name": tensors.tensor(3)}])

    with pytest.raises(grpc.RpcError, match=r"inputs\.people\[1\]\.name: expected string, got int64"):
        serve("def f(people):\n    return {'y': 1}\n", promise).predict({"people": people})


def test_libraries_of_the_model_are_found_where_each_era_kept_them(serve: Any, tmp_path: Any) -> None:
    for place, name in (
        ("lib", "from_lib"),
        ("files/src/lib", "from_src_lib"),
        ("files/src", "from_src"),
        (".", "from_root"),
    ):
        folder = tmp_path / "model" / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.py").write_text(f"HERE = '{name}'\n")
    (tmp_path / "model" / "files" / "data.txt").write_text("read from the working directory")
    code = """
    from pathlib import Path
    import from_lib, from_src_lib, from_src, from_root

    TEXT = Path("data.txt").read_text()

    def names():
        return {"y": [TEXT, from_lib.HERE, from_src_lib.HERE, from_src.HERE, from_root.HERE]}
    """
    promise = {"name": "names", "inputs": {}, "outputs": {"y": {"shape": [-1], "type": "string"}}}

    answer = serve(code, promise).predict({})

    assert answer["y"].tolist() == [
        "read from the working directory",
        "from_lib",
        "from_src_lib",
        "from_src",
        "from_root",
    ]


def test_half_precision_and_complex_numbers_pass_through(serve: Any) -> None:
    sides = {"h": {"shape": [-1], "type": "half"}, "c": {"shape": [-1], "type": "complex64"}}
    promise = {"name": "f", "inputs": sides, "outputs": sides}
    sent = {"h": tensors.tensor(np.array([0.5, -2], "f2")), "c": tensors.tensor(np.array([1 + 2j], "c8"))}

    answer = serve("def f(h, c):\n    return {'h': h, 'c': c}\n", promise).predict(sent)

    assert (answer["h"].dtype, answer["h"].tolist()) == (np.float16, [0.5, -2])
    assert (answer["c"].dtype, answer["c"].tolist()) == (np.complex64, [1 + 2j])
