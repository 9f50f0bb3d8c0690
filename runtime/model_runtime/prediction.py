"""A prediction, from a request's bytes to an answer's: decode, validate, call, encode. Knows no gRPC, no socket, no process.

This is the boundary `handle(method, bytes)`: whatever carries the bytes, a request gets the same answer or PredictionError.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Dict, List, Optional

from . import tensors
from .contract import Signature
from .errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelFailure,
    OutputMismatch,
    PredictionError,
    UnknownMethod,
    Violation,
)
from .model import messages, values
from .model.code import describe
from .model.service import Context, Request, RuntimeService
from .tensors import ERA_BY_PATH, Era, Tensor
from .wire import WireError

log = logging.getLogger(__name__)


class Predictor:
    """Answers the predictions of one loaded service, at most `options.threads` at a time."""

    def __init__(self, service: RuntimeService) -> None:
        self._service = service
        self._slots = threading.BoundedSemaphore(service.options.threads)
        self._undeclared: set[str] = set()

    def handle(self, method: str, data: bytes, timeout: Optional[float] = None) -> bytes:
        """The bytes of the answer to the request `data` of the gRPC path `method`. Raises a PredictionError."""
        era = ERA_BY_PATH.get(method)
        if era is None:
            raise UnknownMethod(f"no method {method}")
        request = decode(era, data)
        signature = self._signature(request.signature_name)
        inputs = validate(signature, request.inputs)
        result = self._call(Request(signature, inputs, era.name), timeout)
        return tensors.encode_response(era, self._promised(signature, result))

    def _signature(self, name: str) -> Signature:
        contract = self._service.contract
        signature = contract.signature(name)
        if signature is None:
            expected = ", ".join(known.name for known in contract.signatures)
            violation = Violation("model_spec.signature_name", f"expected one of {expected}, got {name!r}")
            raise InvalidRequest(f"{name!r} signature is not present in the model", [violation])
        return signature

    def _call(self, request: Request, timeout: Optional[float]) -> Any:
        started = time.monotonic()
        if not self._slots.acquire(timeout=-1 if timeout is None else timeout):
            raise DeadlineExceeded("the deadline passed while the call was waiting for the model")
        try:
            left = None if timeout is None else timeout - (time.monotonic() - started)
            return self._service.Predict(request, Context(left))
        except PredictionError:
            raise
        except (
            Exception,
            SystemExit,
        ) as error:  # a model must not end the runtime: this call fails, the next is answered
            raise self._failure(request, error) from error
        finally:
            self._slots.release()

    def _failure(self, request: Request, error: BaseException) -> ModelFailure:
        log.error("the model failed", exc_info=error, extra={"signature": request.signature.name})
        text = (
            describe(error, self._service.directory) if self._service.options.error_details else "see the runtime's log"
        )
        return ModelFailure(f"the model's function {request.signature.name!r} failed: {text}")

    def _promised(self, signature: Signature, result: Any) -> Dict[str, Tensor]:
        """What the model returned, as its contract promises it. Raises OutputMismatch."""
        returned = messages.from_result(result)
        violations: List[Violation] = []
        outputs = values.returned(signature.outputs, returned, "outputs", violations)
        if violations:
            raise OutputMismatch(f"the model's function {signature.name!r} broke its contract", violations)
        if len(returned) > len(outputs):
            self._warn_undeclared(returned.keys() - outputs.keys())
        return outputs

    def _warn_undeclared(self, names: set[str]) -> None:
        """Once for each name: such outputs are dropped, as Hydrosphere's gateway did."""
        for name in sorted(names - self._undeclared):
            log.warning("an output that the contract does not declare is left out", extra={"output": name})
        self._undeclared |= names


def decode(era: Era, data: bytes) -> tensors.Request:
    try:
        return tensors.decode_request(era, data)
    except WireError as error:
        raise InvalidRequest(f"the request is no PredictRequest of {era.service}: {error}") from None


def validate(signature: Signature, sent: Dict[str, Tensor]) -> Dict[str, Any]:
    """The values for the model's function. Raises InvalidRequest with every violation of the contract at once."""
    violations: List[Violation] = []
    inputs = values.received(signature.inputs, sent, "inputs", violations)
    if violations:
        raise InvalidRequest(f"the request breaks the contract of {signature.name!r}", violations)
    return inputs
