"""Our own log in the model process. It goes to the supervisor as status lines, out of the reach of the model's own logging.

A model may configure, disable or replace everything of `logging`, `sys.stdout` and `sys.stderr`. What we log of it, the traceback
of its exception above all, arrives all the same. Standard library only, Python 3.8.
"""

from __future__ import annotations

import logging
import os
import threading
import traceback
from typing import Any, Dict, Optional

from . import guardian

_ROOT = "model_runtime"
_MESSAGE_CHARACTERS, _EXCEPTION_CHARACTERS = 4000, 16000  # well within STATUS_LINE_BYTES, however they are escaped
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_make_record = logging.LogRecord


class Status:
    """Tells the supervisor how the process stands. Children that the model forks tell it nothing."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._descriptor: Optional[int] = descriptor
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forget)

    def tell(self, **state: Any) -> None:
        """Never raises: without a supervisor nobody is left to be told."""
        with self._lock:
            if self._descriptor is not None:
                try:
                    guardian.tell(self._descriptor, **state)
                except OSError:
                    self._descriptor = None

    def _forget(self) -> None:
        self._lock = threading.Lock()
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class _ToSupervisor(logging.Handler):
    def __init__(self, status: Status) -> None:
        super().__init__()
        self._status = status

    def emit(self, record: logging.LogRecord) -> None:
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        self._status.tell(
            phase="record",
            level=record.levelname,
            message=shortened(record.getMessage(), _MESSAGE_CHARACTERS),
            exception=shortened(_exception(record), _EXCEPTION_CHARACTERS),
            fields={name: shortened(str(value), _MESSAGE_CHARACTERS // 8) for name, value in fields.items()},
        )


def keep_apart(status: Status) -> None:
    """Takes our loggers out of the tree that the model configures, and sends them to the supervisor."""
    manager = logging.Manager(logging.RootLogger(logging.INFO))
    manager.root.addHandler(_ToSupervisor(status))
    known: Dict[str, Any] = logging.root.manager.loggerDict
    for name in [name for name in known if name == _ROOT or name.startswith(f"{_ROOT}.")]:
        logger = known.pop(name)
        if isinstance(logger, logging.Logger):
            logger.manager, logger.parent = manager, manager.root
            logger.makeRecord = _record  # type: ignore[assignment,method-assign]


def _record(
    name: str, level: int, file: str, line: int, message: Any, arguments: Any, exception: Any, *rest: Any
) -> logging.LogRecord:
    """As `Logger.makeRecord` does, whatever record factory the model has set."""
    record = _make_record(name, level, file, line, message, arguments, exception)
    vars(record).update(rest[1] if len(rest) > 1 and rest[1] else {})
    return record


def _exception(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    try:
        return "".join(traceback.format_exception(*record.exc_info)).rstrip()
    except BaseException:  # noqa: BLE001  # formatting runs the model's own code
        return f"{record.exc_info[0].__name__}, which cannot be formatted"


def shortened(text: str, limit: int) -> str:
    """The text, without its middle where it is too long."""
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]} … {text[-(limit // 2) :]}"
