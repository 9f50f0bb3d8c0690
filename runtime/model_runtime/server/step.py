"""One step of a pod's start (fetch, install), as a command: bounded in time, and whatever goes wrong has its exit status.

A failure is one line in the log and a message in the termination log, where the operator reads it. Never a traceback.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import click

from .. import settings
from ..errors import InvalidSetting, ModelRuntimeError
from ..masking import masked
from ..settings import Settings
from . import logs, program

log = logging.getLogger(__name__)


def run(function: Callable[[], None], failure: type[ModelRuntimeError], seconds: Callable[[], int]) -> int:
    """Runs `function` and returns the exit status. Anything that it raises and that is not ours becomes a `failure`.

    `seconds` returns the time limit, and is called within the net: it may be a setting that cannot be used.
    """
    try:
        wanted = settings.from_environment()
    except InvalidSetting as error:
        logs.configure("info", "text")
        return program.report(error, settings.termination_log())
    logs.configure(wanted.log_level, wanted.log_format)
    try:
        with _terminable(), _deadline(seconds(), failure, wanted):
            function()
    except (KeyboardInterrupt, SystemExit, click.ClickException, click.exceptions.Exit):
        raise
    except ModelRuntimeError as error:
        return program.report(error, wanted.termination_log)
    except BaseException as error:  # noqa: BLE001  # libraries raise anything; a panic of obstore's is no Exception
        log.debug("unexpected", extra={"origin": masked(traceback.format_exc())})
        return program.report(failure(_described(error)), wanted.termination_log)
    return program.OK


def _described(error: BaseException) -> str:
    """The thing first, as everywhere: what an error of the system is about is its file."""
    if isinstance(error, OSError) and error.filename is not None:
        name = error.filename if error.filename2 is None else error.filename2  # of a move, where it leads
        return f"{name}: {error.strerror or type(error).__name__}"
    return f"{type(error).__name__}: {error}"


@contextmanager
def _deadline(seconds: int, failure: type[ModelRuntimeError], wanted: Settings) -> Iterator[None]:
    """Ends the process after so many seconds, whatever it waits for: a library that never returns cannot be interrupted."""

    def expire() -> None:
        error = failure(f"not done after {seconds} seconds")
        os._exit(program.report(error, wanted.termination_log))

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM unwinds the stack, so that what is under way is ended and temporary files go."""

    def stop(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
