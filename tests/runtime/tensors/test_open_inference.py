"""The Open Inference Protocol's messages, read and written as protobuf does."""

from __future__ import annotations

from random import Random

import grammar
import infer_oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_runtime import tensors
from model_runtime.contract import DataType
from model_runtime.protocols import DATATYPES
from model_runtime.tensors import open_inference
from model_runtime.tensors.open_inference import InferRequest


@settings(max_examples=300)
@given(seed=st.integers(0, 1 << 64))
def test_hostile_bytes_are_accepted_exactly_when_protobuf_accepts_them(seed: int) -> None:
    rng = Random(seed)
    data = grammar.message(rng, "infer.request")
    for _ in range(3):
        infer_oracle.request(data)
        infer_oracle.response(data)
        data = grammar.mutate(rng, data)


@given(data=st.binary(max_size=60))
def test_any_bytes_are_accepted_exactly_when_protobuf_accepts_them(data: bytes) -> None:
    infer_oracle.request(data)
    infer_oracle.response(data)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("dtype", DATATYPES, ids=DATATYPES.values())
def test_every_type_there_and_back(dtype: DataType, raw: bool) -> None:
    values = [b"", b"a\0", "größe".encode()] if dtype is DataType.STRING else [False, True, True]
    sent = {"x": tensors.tensor(values, dtype)}

    request = infer_oracle.request(open_inference.encode_request(InferRequest(sent, raw=raw)))
    assert request is not None
    answer = open_inference.decode_response(open_inference.encode_response(request, request.inputs))

    assert request.inputs["x"].dtype is answer["x"].dtype is dtype
    assert tensors.array(answer["x"]).tolist() == values
    assert request.raw == (raw or dtype in (DataType.HALF, DataType.BFLOAT16))


def test_large_values_are_a_view_on_the_request() -> None:
    data = open_inference.encode_request(InferRequest({"x": tensors.tensor(np.arange(10_000.0))}))

    values = open_inference.decode_request(data).inputs["x"].values

    assert not values.flags.owndata
    assert values.tolist() == list(range(10_000))


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"\1\0\0", "expected a length of 4 bytes at offset 0 of raw contents, got their end"),
        (b"\1\0\0\0a\4\0\0\0bcd", "expected a string of 4 bytes at offset 5 of raw contents, got their end"),
    ],
)
def test_strings_that_are_cut_are_told_where(raw: bytes, told: str) -> None:
    request = infer_oracle.message("ModelInferRequest")(raw_input_contents=[raw])
    request.inputs.add(name="x", datatype="BYTES", shape=[1])

    assert open_inference.decode_request(request.SerializeToString()).inputs["x"].problem == told
