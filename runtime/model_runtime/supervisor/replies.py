"""What a model process sends: the answers on its channel and the lines on its status pipe, checked as hostile input.

User code runs in that process and can write anything to either. What is not as expected raises ChannelError; the process is then
ended and started again.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .. import errors
from ..errors import ModelError, ModelRuntimeError, PredictionError, Violation
from ..model.channel import ANSWER, DROPPED, FAILURE, ChannelError, Frame
from ..model.config import FAILURE_BYTES, STATUS_LINE_BYTES
from ..outcome import Outcome

KINDS = (ANSWER, FAILURE, DROPPED)
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "pid"}
_SHOWN_BYTES = 100  # of what cannot be read, in the message about it


class Started(NamedTuple):
    """The process that will run the model exists."""

    pid: int
    problem: str  # what this platform cannot do to keep it in hand, or nothing


class Serving(NamedTuple):
    """The model is loaded and warmed up."""


class Failed(NamedTuple):
    """The model cannot be loaded."""

    error: ModelRuntimeError


class Unstarted(NamedTuple):
    """The system had no resources for the process that would run the model."""

    problem: str


class Record(NamedTuple):
    """A line of our own log."""

    level: int
    message: str
    exception: str
    fields: Mapping[str, Any]


Status = Started | Serving | Failed | Unstarted | Record


def _leaves(root: type[Any]) -> dict[str, type[Any]]:
    return {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, root)}


_PREDICTION_ERRORS: dict[str, type[PredictionError]] = _leaves(PredictionError)
_MODEL_ERRORS: dict[str, type[ModelError]] = {**_leaves(ModelError), **_leaves(errors.ContractError)}


# Answers ------------------------------------------------------------------------------------------------------------


def outcome(frame: Frame) -> Outcome:
    """The outcome that an ANSWER or FAILURE holds."""
    times = (frame.first, frame.second)
    if not all(math.isfinite(seconds) and seconds >= 0 for seconds in times):
        raise ChannelError(f"expected times in seconds, got {times}")
    if frame.kind == ANSWER:
        return Outcome(bytes(frame.payload), frame.code, *times)
    return Outcome(_error(bytes(frame.payload)), frame.code, *times)


def _error(payload: bytes) -> PredictionError:
    if len(payload) > FAILURE_BYTES:
        raise ChannelError(f"expected an error of at most {FAILURE_BYTES} bytes, got one of {len(payload)}")
    read = _object(payload)
    kind = _PREDICTION_ERRORS.get(_text(read, "error"))
    if kind is None:
        raise ChannelError(f"expected the name of an error, got {_shown(payload)}")
    violations = read.get("violations")
    if not isinstance(violations, list) or not all(map(_is_violation, violations)):
        raise ChannelError(f"expected violations, got {_shown(payload)}")
    return kind(_text(read, "summary"), [Violation(*violation) for violation in violations])


def _is_violation(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)


# Status -------------------------------------------------------------------------------------------------------------


class StatusReader:
    """Puts the pieces of a status pipe together into lines, and reads these."""

    def __init__(self) -> None:
        self._rest = b""

    def read(self, data: bytes) -> list[Status]:
        """The whole lines in a piece of what arrived."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if any(len(line) > STATUS_LINE_BYTES for line in (*lines, self._rest)):
            raise ChannelError(f"expected a status line of at most {STATUS_LINE_BYTES} bytes, got more")
        return [_status(line) for line in lines]


def _status(line: bytes) -> Status:
    read = _object(line)
    phase = _text(read, "phase")
    if phase == "serving":
        return Serving()
    if phase == "failed":
        kind = _MODEL_ERRORS.get(_text(read, "error"))
        if kind is not None:
            return Failed(kind(_text(read, "message")))
    if phase == "unstarted":
        return Unstarted(_text(read, "problem"))
    if phase == "started":
        return Started(_pid(read, line), _text(read, "problem"))
    if phase == "record":
        return _record(read, line)
    raise ChannelError(f"expected a status, got {_shown(line)}")


def _pid(read: Mapping[str, Any], line: bytes) -> int:
    pid = read.get("pid")
    if type(pid) is not int or not 1 < pid < 1 << 31:
        raise ChannelError(f"expected the id of a process, got {_shown(line)}")
    return pid


def _record(read: Mapping[str, Any], line: bytes) -> Record:
    level, fields = _text(read, "level"), read.get("fields")
    if level not in _LEVELS or not isinstance(fields, dict):
        raise ChannelError(f"expected a log record, got {_shown(line)}")
    kept = {name: value for name, value in fields.items() if name.isidentifier() and name not in _RESERVED}
    return Record(getattr(logging, level), _text(read, "message"), _text(read, "exception"), kept)


# JSON ---------------------------------------------------------------------------------------------------------------


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        read = json.loads(data)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise ChannelError(f"expected a JSON object, got {_shown(data)}")
    return read


def _text(read: Mapping[str, Any], name: str) -> str:
    value = read.get(name)
    if not isinstance(value, str):
        raise ChannelError(f"expected a text as {name}, got {type(value).__name__}")
    return value


def _shown(data: bytes) -> str:
    return repr(data[:_SHOWN_BYTES]) + ("…" if len(data) > _SHOWN_BYTES else "")


__all__: Sequence[str] = [
    "KINDS",
    "Failed",
    "Record",
    "Serving",
    "Started",
    "Status",
    "StatusReader",
    "Unstarted",
    "outcome",
]
