"""The old calling convention: values to `TensorProto` messages, and `PredictResponse` or tensor messages back to tensors.

The message classes are those that the model's own imports give (`hydro`); protobuf comes from the model's environment.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from .. import tensors
from ..errors import OutputMismatch, Violation
from ..tensors import ERAS, Era, Request, Tensor
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

    Raises OutputMismatch for anything else.
    """
    try:
        if hydro.is_response(result):
            return dict(tensors.decode_response(_era(result), result.SerializeToString()))
        if isinstance(result, Mapping):
            return {name: _from_message(value) if hydro.is_tensor(value) else value for name, value in result.items()}
    except WireError as error:  # bytes that a message of the model's own making holds
        raise OutputMismatch(f"the model returned a message that cannot be read: {error}") from None
    kind = "nothing" if result is None else type(result).__name__
    raise OutputMismatch(f"the model's function returned {kind}, expected a dict of outputs (or a PredictResponse)")


def _era(message: Any) -> Era:
    return ERAS["v3"] if message.DESCRIPTOR.full_name.startswith("hydrosphere.serving.") else OLD_ERA


def _from_message(message: Any) -> Tensor:
    response = hydro.response_class(_era(message).name)()
    response.outputs["value"].MergeFromString(message.SerializeToString())
    return tensors.decode_response(_era(message), response.SerializeToString())["value"]
