"""Structured logs: one line per lifecycle step and per failure, as text or JSON. Payloads never."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from types import TracebackType
from typing import Any

from .. import settings

settings.silence_grpc()  # here, because programs import this before grpc, which reads its verbosity once, when imported

ROOT = "model_runtime"
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(level: str, form: str) -> None:
    """Sends our logs to stderr. Other loggers (grpc, the model's own) keep the handlers that they have."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    logger = logging.getLogger(ROOT)
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False


def capture_everything() -> None:
    """Makes log lines of what would else go to stderr in a form of its own.

    That is: uncaught exceptions, of threads and of finalisers too, warnings, and records of loggers without a handler. For a
    program that is ours alone; `configure` comes first.
    """
    [handler] = logging.getLogger(ROOT).handlers
    logging.lastResort = logging.Handler(logging.WARNING)
    logging.lastResort.emit = handler.handle  # type: ignore[method-assign, assignment]
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").addHandler(handler)
    sys.excepthook = lambda kind, error, trace: _report("uncaught exception", kind, error, trace)
    threading.excepthook = lambda args: _report(
        "uncaught exception in a thread", args.exc_type, args.exc_value, args.exc_traceback
    )
    sys.unraisablehook = lambda args: _report("ignored exception", args.exc_type, args.exc_value, args.exc_traceback)


def _report(text: str, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if not issubclass(kind, SystemExit):
        logging.getLogger(ROOT).error(text, exc_info=(kind, error or kind(), trace))


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The traceback: of an exception here, or as a model process sent it."""
    return formatter.formatException(record.exc_info) if record.exc_info else record.exc_text or ""


def _stamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


class _Text(logging.Formatter):
    """`2026-01-01T00:00:00.000Z INFO  serving port=9090 seconds=0.31`"""

    def format(self, record: logging.LogRecord) -> str:
        pairs = "".join(f" {key}={_quoted(value)}" for key, value in _extras(record).items())
        line = f"{_stamp(record)} {record.levelname:<7} {record.getMessage()}{pairs}"
        exception = _exception(self, record)
        return f"{line}\n{exception}" if exception else line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _stamp(record),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **_extras(record),
        }
        if exception := _exception(self, record):
            line["exception"] = exception
        return json.dumps(line, default=str, ensure_ascii=False)


def _quoted(value: Any) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if not text or any(c.isspace() or c in '"=' for c in text) else text
