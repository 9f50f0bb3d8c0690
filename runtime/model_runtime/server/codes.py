"""The one table from our errors to gRPC statuses, and the rich details (`google.rpc`) that go with them.

gRPC carries status texts in HTTP/2 trailers, of which clients accept 8 kB: what is said here is cut to fit, never dropped.
"""

from __future__ import annotations

import functools

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from .. import errors

DOMAIN = "runtime.hydrosphere.io"

STATUS: dict[type[errors.ModelRuntimeError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownMethod: grpc.StatusCode.UNIMPLEMENTED,
    errors.UnknownService: grpc.StatusCode.NOT_FOUND,
    errors.NotServing: grpc.StatusCode.UNAVAILABLE,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.ModelFailure: grpc.StatusCode.INTERNAL,
    errors.OutputMismatch: grpc.StatusCode.INTERNAL,
    errors.ModelCrashed: grpc.StatusCode.INTERNAL,
    errors.ModelTimeout: grpc.StatusCode.INTERNAL,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
}

_MESSAGE_BYTES = 1000  # percent-encoded in the trailer, so up to three times that
_VIOLATIONS_BYTES = 2000
_VIOLATION_BYTES = 500


def refuse(context: grpc.ServicerContext, error: errors.PredictionError) -> None:
    """Gives the call the error's status, its text and its field violations. (`abort` would raise, and log a traceback.)"""
    told = rpc_status.to_status(status(error)) if error.violations else _plain(code(error), reason(error), _text(error))
    context.set_code(told.code)
    context.set_details(told.details)
    context.set_trailing_metadata(told.trailing_metadata)


@functools.lru_cache(maxsize=64)  # a flood is refused with the same few words
def _plain(code: grpc.StatusCode, reason: str, text: str) -> grpc.Status:
    told: grpc.Status = rpc_status.to_status(_status(code, reason, text))
    return told


def code(error: errors.PredictionError) -> grpc.StatusCode:
    """The status of the error's nearest ancestor that has one: models may raise subclasses of their own."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), grpc.StatusCode.INTERNAL)


def reason(error: errors.PredictionError) -> str:
    """The name of the nearest ancestor that is ours: clients know no other."""
    return next((kind.__name__ for kind in type(error).__mro__ if kind in STATUS), errors.PredictionError.__name__)


def status(error: errors.PredictionError) -> status_pb2.Status:
    answer = _status(code(error), reason(error), _text(error))
    if error.violations:
        answer.details.append(_any(_bad_request(error.violations)))
    return answer


def _status(code: grpc.StatusCode, reason: str, text: str) -> status_pb2.Status:
    answer = status_pb2.Status(code=getattr(code_pb2, code.name), message=_cut(text, _MESSAGE_BYTES))
    answer.details.append(_any(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)))
    return answer


def _bad_request(violations: tuple[errors.Violation, ...]) -> error_details_pb2.BadRequest:
    """As many violations as fit, each cut to a part of the room."""
    request = error_details_pb2.BadRequest()
    left = _VIOLATIONS_BYTES
    for number, violation in enumerate(violations):
        path, message = _cut(violation.path, _VIOLATION_BYTES), _cut(violation.message, _VIOLATION_BYTES)
        left -= len(path.encode()) + len(message.encode()) + 8
        if left < 0:
            request.field_violations.add(field="…", description=f"only the first {number} are listed")
            break
        request.field_violations.add(field=path, description=message)
    return request


def _text(error: errors.PredictionError) -> str:
    """The error's own words; what a subclass makes of `str` is foreign code."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001
        return reason(error)


def _any(message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _cut(text: object, size: int) -> str:
    """At most `size` bytes of UTF-8. Lone surrogates, which no message can carry, are replaced."""
    data = str(text)[: size + 1].encode("utf-8", "replace")
    return data.decode() if len(data) <= size else data[: size - 3].decode("utf-8", "ignore") + "…"
