"""What is fuzzed. A target is a function `bytes -> None` that raises on anything wrong, and where its bytes come from.

To add one: write the function, name the message of `grammar.SCHEMA` its inputs grow from, and enter both in TARGETS.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import infer_oracle
import oracle

from model_runtime import tensors
from model_runtime.contract import Contract, Field, Signature, binary
from model_runtime.errors import ContractError, InvalidRequest, OutputMismatch
from model_runtime.model.service import Context, Request, RuntimeService
from model_runtime.prediction import Predictor
from model_runtime.wire import WireError


class Target(NamedTuple):
    run: Callable[[bytes], None]
    grammar: tuple[str, ...]


def codec(era: str, data: bytes) -> None:
    """Our reading of a request is protobuf's; every tensor makes an array or a TensorError; what we write, protobuf reads."""
    request = oracle.request(tensors.ERAS[era], data)
    if request is None:
        return
    for tensor in request.inputs.values():
        try:
            array = tensors.array(tensor, (-1, 2))
            again = tensors.text(array) if tensor.dtype == 7 else array
            if tensor.dtype != 27:
                tensors.tensor(again, tensor.dtype)
        except tensors.TensorError:
            pass
    oracle.round_trip(tensors.ERAS[era], request)


def infer(data: bytes) -> None:
    """The same of the Open Inference Protocol's requests and answers."""
    request = infer_oracle.request(data)
    infer_oracle.response(data)
    if request is None:
        return
    for tensor in request.inputs.values():
        with contextlib.suppress(tensors.TensorError):
            tensors.array(tensor, (-1, 2))
    infer_oracle.round_trip(request)


def contract(data: bytes) -> None:
    """Any bytes are a contract or a ContractError, and a contract written again is read as the same."""
    try:
        read = binary.read(data)
    except ContractError:
        return
    if len(read.signatures) == 1:
        for era in binary.ERAS:
            assert binary.read(binary.write(read, era)).signatures == read.signatures


class Echo(RuntimeService):
    """Returns what it was given."""

    def Predict(self, request: Request, context: Context) -> dict[str, Any]:
        return request.inputs


def predict(name: str, data: bytes) -> None:
    """A request to a model that promises just what the request holds, and echoes it, is answered or is the client's fault."""
    spoken = tensors.CODECS[name]
    sent: dict[str, tensors.Tensor] = {}
    try:
        sent = spoken.decode_request(data).inputs
        fields = tuple(Field(name, tensor.dtype) for name, tensor in sent.items())
        promise = Contract((Signature("echo", fields, fields or ANYTHING.signatures[0].outputs),))
    except (WireError, tensors.TensorError, ContractError):
        promise = ANYTHING
    try:
        answer = Predictor(Echo("/nowhere", promise)).handle(spoken.protocol.path, data)
    except InvalidRequest:
        return
    except OutputMismatch as error:
        assert not sent or all("empty" in violation.message for violation in error.violations), error
        return
    wanted = spoken.wanted(spoken.decode_request(data))
    assert spoken.decode_response(answer).keys() == (set(wanted) or sent.keys())


ANYTHING = Contract((Signature("echo", (Field("x"),), (Field("x"),)),))

TARGETS: dict[str, Target] = {
    "0.0.5": Target(partial(codec, "0.0.5"), ("0.0.5.request", "v2.request")),
    "v2": Target(partial(codec, "v2"), ("v2.request",)),
    "v3": Target(partial(codec, "v3"), ("v3.request",)),
    "open-inference": Target(infer, ("infer.request",)),
    "predict-v2": Target(partial(predict, "v2"), ("v2.request",)),
    "predict-v3": Target(partial(predict, "v3"), ("v3.request",)),
    "predict-open-inference": Target(partial(predict, "open-inference"), ("infer.request",)),
    "contract": Target(contract, ("contract", "v3.signature")),
}
