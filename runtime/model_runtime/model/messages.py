"""The old calling convention: values to `TensorProto` messages, and `PredictResponse` or tensor messages back to tensors.

The message classes are those that the model's own imports give (`hydro`); protobuf comes from the model's environment.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from .. import tensors
from ..contract import DataType
from ..errors import OutputMismatch, Violation
from ..tensors import ERAS, Era, Request, Tensor, foreign
from ..tensors.tensor import EMPTY
from ..wire import WireError
from . import hydro, values
from .values import Fields

OLD_ERA = ERAS["v2"]  # the convention ended before v3 began; its messages are v0's and v2's


def to_messages(fields: Fields, inputs: Mapping[str, Any]) -> Dict[str, Any]:
    """Each input as a TensorProto with typed values and a shape, whatever the client sent."""
    violations: List[Violation] = []
    sent = values.returned(fields, inputs, "inputs", violations)
    request = hydro.request_class(OLD_ERA.name).FromString(tensors.encode_request(OLD_ERA, Request(sent)))
    return {name: request.inputs[name] for name in sent}


def from_result(result: Any) -> Dict[str, Any]:
    """Name to value of what a model returned: a mapping (whose values may be messages), or a PredictResponse of any era.

    Raises OutputMismatch for anything else, and whatever the code of a foreign class raises.
    """
    if type(result) is not dict:
        if hydro.is_response(result):
            return _from_response(result)
        if not isinstance(result, Mapping):
            raise OutputMismatch(f"the model's function returned {_kind(result)}, {_EXPECTED}")
    return {name: _from_value(value) for name, value in foreign.mapping(result).items()}


_EXPECTED = "expected a dict of outputs (or a PredictResponse)"


def _kind(result: Any) -> str:
    return "nothing" if result is None else foreign.type_name(result)


def _from_response(response: Any) -> Dict[str, Any]:
    try:
        return dict(tensors.decode_response(_era(response), response.SerializeToString()))
    except WireError as error:  # bytes that a message of the model's own making holds
        raise OutputMismatch(f"the model returned a message that cannot be read: {error}") from None


def _from_value(value: Any) -> Any:
    """The value, or the tensor that it is a message of. What is wrong with a message is found where its output is read."""
    try:
        return _from_message(value) if hydro.is_tensor(value) else value
    except WireError as error:
        told = str(error)
    except BaseException as error:  # noqa: BLE001  # the code of its class
        told = foreign.type_name(error)
    problem = f"expected a value or a message, got {foreign.type_name(value)} that cannot be read: {told}"
    return Tensor(DataType.INVALID, None, EMPTY, problem)


def _era(message: Any) -> Era:
    return ERAS["v3"] if message.DESCRIPTOR.full_name.startswith("hydrosphere.serving.") else OLD_ERA


def _from_message(message: Any) -> Tensor:
    response = hydro.response_class(_era(message).name)()
    response.outputs["value"].MergeFromString(message.SerializeToString())
    return tensors.decode_response(_era(message), response.SerializeToString())["value"]
