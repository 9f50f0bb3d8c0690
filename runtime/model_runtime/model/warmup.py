"""What a model must answer before it serves: golden requests stored beside it, or one made up from its contract."""

from __future__ import annotations

import json
import logging
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple

import numpy as np

from .. import synthesis, tensors
from ..contract import DataType, Signature
from ..errors import InvalidRequest, OutputMismatch, PredictionError, Violation, WarmupFailed
from ..prediction import Predictor
from ..tensors import ERAS, Request, Tensor
from . import values
from .service import RuntimeService

log = logging.getLogger(__name__)

GOLDEN_FILE = (
    "warmup.json"  # in the model directory or in its files: [{"inputs": {…}, "outputs": {…}, "signature": "…"}, …]
)
_ERA = ERAS["v2"]  # it can name a signature
_CLOSE = 1e-5


_ADVICE = "warmup.inputs of the ModelRuntime, or warmup.json beside the model, can give one that it answers"
# What code raises that refuses a value, besides exceptions of libraries: the encoder that does not know a category,
# the network whose kernel is larger than the picture. Other errors do not depend on the values of a valid request.
_REFUSALS = (ValueError, LookupError, AssertionError, ArithmeticError, RuntimeError)
_FAULTS = (NotImplementedError, RecursionError)  # which are RuntimeErrors


class _Asked(NamedTuple):
    """A request of the warm-up."""

    signature: Signature
    inputs: Dict[str, Tensor]
    expected: Dict[str, Tensor]
    source: str = ""  # the file it was read from; none: made up


def warm_up(predictor: Predictor, service: RuntimeService) -> None:
    """Asks the model. Raises WarmupFailed with the first request that it cannot answer, or answers otherwise than was stored.

    That the model refuses the values of a made-up request proves nothing against it: that is logged, and it may serve.
    """
    for asked in _requests(service):
        encoded = tensors.encode_request(_ERA, Request(asked.inputs, asked.signature.name))
        try:
            answer = tensors.decode_response(_ERA, predictor.handle(_ERA.predict, encoded))
        except PredictionError as error:
            _judge(asked, error)
            continue
        differing = [name for name, tensor in asked.expected.items() if not _is_close(answer[name], tensor)]
        if differing:
            what = f"the model answers its golden request otherwise than was stored: {', '.join(differing)}"
            raise WarmupFailed(f"{what} ({asked.source}, warmup.outputs of the ModelRuntime)")


def _judge(asked: _Asked, error: PredictionError) -> None:
    """Raises WarmupFailed unless the model did no more than refuse values that nobody chose."""
    if asked.source:
        place = f"{asked.source}, warmup.inputs of the ModelRuntime"
        raise WarmupFailed(f"the model cannot answer its warm-up request ({place}): {error}") from error
    if not _is_refusal(asked.signature, error):
        raise WarmupFailed(f"the model cannot answer its warm-up request: {error} (made up; {_ADVICE})") from error
    log.warning(
        "the model refused a made-up warm-up request, and serves untried",
        extra={"signature": asked.signature.name, "error": str(error), "advice": _ADVICE},
    )


def _is_refusal(signature: Signature, error: PredictionError) -> bool:
    if isinstance(error, OutputMismatch) or not signature.inputs:  # no value was made up
        return False
    cause = error.__cause__
    if cause is None:  # a custom runtime's own word
        return isinstance(error, InvalidRequest)
    if isinstance(cause, OSError):  # a file that is missing; or the made-up text was taken for its name
        return any(field.dtype in (DataType.STRING, DataType.MAP, DataType.ANY) for field in signature.inputs)
    is_foreign = isinstance(cause, Exception) and type(cause).__module__ != "builtins"
    return is_foreign or (isinstance(cause, _REFUSALS) and not isinstance(cause, _FAULTS))


def _requests(service: RuntimeService) -> Iterator[_Asked]:
    for folder in (service.directory.path, service.directory.files):
        file = folder / GOLDEN_FILE
        if file.is_file():
            yield from (_golden(service, str(file), entry) for entry in _entries(file.read_bytes(), str(file)))
            return
    for signature in service.contract.signatures:
        yield _Asked(signature, synthesis.inputs(signature.inputs), {})


def _entries(data: bytes, file: str) -> List[Mapping[str, Any]]:
    try:
        read = json.loads(data.decode("utf-8"))
    except ValueError as error:
        raise WarmupFailed(f"{file}: expected JSON: {error}") from None
    entries = read if isinstance(read, list) else [read]
    if not all(isinstance(entry, dict) and isinstance(entry.get("inputs"), dict) for entry in entries):
        raise WarmupFailed(f'{file}: expected objects with "inputs" (and "outputs", "signature")')
    return entries


def _golden(service: RuntimeService, file: str, entry: Mapping[str, Any]) -> _Asked:
    signature = service.contract.signature(str(entry.get("signature", "")))
    if signature is None:
        raise WarmupFailed(f"{file}: the contract has no signature {entry.get('signature')!r}")
    violations: List[Violation] = []
    inputs = values.returned(signature.inputs, entry["inputs"], "inputs", violations)
    stored = entry.get("outputs") or {}
    declared = tuple(field for field in signature.outputs if field.name in stored)
    expected = values.returned(declared, stored, "outputs", violations)
    if violations:
        raise WarmupFailed(f"{file}: {'; '.join(map(str, violations))}")
    return _Asked(signature, inputs, expected, file)


def _is_close(got: Tensor, expected: Tensor) -> bool:
    if got.shape != expected.shape:
        return False
    if got.values.dtype.kind in "fc":
        return bool(np.allclose(got.values, expected.values, rtol=_CLOSE, atol=_CLOSE, equal_nan=True))
    return bool(np.array_equal(got.values, expected.values))
