"""The host whose model lives in processes of its own: gives calls to the least busy one, and keeps them alive.

One thread, the supervisor's, starts processes, reads what they say, notices their end and starts them again. The threads that
call never touch anything but `ModelProcess.calls`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import selectors
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from .. import errors
from ..errors import (
    Cancelled,
    CrashLoop,
    ModelCrashed,
    ModelError,
    ModelRuntimeError,
    ModelTimeout,
    NotServing,
    PredictionError,
    Violation,
)
from ..model.channel import FAILURE, Frame
from ..model.config import METHODS
from ..outcome import Outcome
from .calls import Gone
from .host import Cancellation, Done, HostState, Phase
from .launch import Launch
from .process import Line, ModelProcess, State

log = logging.getLogger(__name__)
model_log = logging.getLogger("model_runtime.model_output")

TICK_SECONDS = 0.25
STUCK_SECONDS = 10.0  # without a tick the supervisor itself is stuck
OUTPUT_BYTES = 1 << 16
OUTPUT_LINES = 200  # of one process and tick that are logged; a model that writes more is read and not logged
FIRST_DELAY, LONGEST_DELAY = 0.1, 10.0  # before a process is started again
MAX_FAILED_STARTS = 5  # in a row, of a process that never came to serve: a crash loop
STOP_SECONDS = 5.0  # for a process to end by itself
_INDEX = {method: index for index, method in enumerate(METHODS)}


@dataclass
class _Slot:
    """The place of one model process, whichever process fills it now."""

    process: ModelProcess | None = None
    start_at: float = 0.0
    failed_starts: int = 0
    lines: int = 0  # logged since the last tick


class IsolatedHost:
    """`processes` model processes behind the boundary."""

    def __init__(self, launch: Launch, *, processes: int, timeout: float, load_timeout: float) -> None:
        self._launch = launch
        self._timeout, self._load_timeout = timeout, load_timeout
        self._slots = [_Slot() for _ in range(processes)]
        self._serving: tuple[ModelProcess, ...] = ()  # replaced whole, so that callers need no lock
        self._has_served = False
        self._why_not = "the model is not loaded"
        self._on_change: Callable[[HostState], None] = lambda _state: None
        self._stopping = threading.Event()
        self._ticked = time.monotonic()
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self.restarts = 0

    # What the server asks -----------------------------------------------------------------------------------------

    def start(self, on_change: Callable[[HostState], None]) -> None:
        self._on_change = on_change
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = os.pipe()
        on_change(HostState(Phase.LOADING, "the model is being loaded"))
        self._selector.register(self._wake, selectors.EVENT_READ, lambda: os.read(self._wake, 1))
        self._thread.start()

    def submit(
        self, method: str, request: bytes, timeout: float | None, cancellation: Cancellation, done: Done
    ) -> None:
        deadline = 0.0 if timeout is None else time.monotonic() + timeout
        self._give(_INDEX[method], request, deadline, cancellation, done)

    def _give(self, method: int, request: bytes, deadline: float, cancellation: Cancellation, done: Done) -> None:
        process = self._least_busy()
        if process is None:
            done(Outcome(NotServing(self._why_not)))
            return

        def answered(answer: Frame | Gone) -> None:
            if isinstance(answer, Frame):
                done(_outcome(answer))
            elif answer.begun:
                done(Outcome(_end_of(process)))
            else:  # the model has not seen it: another process may answer
                self._give(method, request, deadline, cancellation, done)

        process.calls.submit(method, request, deadline, cancellation, answered)

    def is_alive(self) -> bool:
        """Whether the supervisor gets on. (That a model is stuck it notices itself.)"""
        return time.monotonic() - self._ticked < STUCK_SECONDS

    def stop(self) -> None:
        if self._thread.ident is None:  # never started
            return
        self._stopping.set()
        os.write(self._woken, b".")
        self._thread.join()
        self._selector.close()
        os.close(self._wake)
        os.close(self._woken)

    def waiting(self) -> int:
        return sum(process.calls.waiting() for process in self._serving)

    def pids(self) -> list[int]:
        return [process.pid for process in self._serving]

    def _least_busy(self) -> ModelProcess | None:
        serving = self._serving
        if len(serving) == 1:
            return serving[0]
        return min(serving, key=lambda process: process.calls.count, default=None)

    # The supervisor's thread --------------------------------------------------------------------------------------

    def _supervise(self) -> None:
        try:
            while not self._stopping.is_set():
                self._start_due()
                for key, _ in self._selector.select(TICK_SECONDS):
                    key.data()
                self._tick()
        except ModelRuntimeError as error:
            self._give_up(error)
        except Exception as error:
            log.exception("the supervisor failed")
            self._give_up(ModelError(f"the supervisor failed: {type(error).__name__}: {error}"))
        finally:
            self._end_all()

    def _tick(self) -> None:
        self._ticked = time.monotonic()
        for slot in self._slots:
            slot.lines = 0
            if slot.process is not None:
                self._check_progress(slot.process)

    def _check_progress(self, process: ModelProcess) -> None:
        """Ends a process that is stuck: one that works on a call, or loads, for longer than it may."""
        if process.state is State.LOADING and process.seconds > self._load_timeout:
            process.killed_for = f"did not load within {self._load_timeout:g} s (MODEL_LOAD_TIMEOUT)"
            process.started.kill()
        elif process.state is State.SERVING and self._timeout and process.calls.busy().seconds > self._timeout:
            process.killed_for = f"did not answer within {self._timeout:g} s (MODEL_TIMEOUT) and was ended"
            process.started.kill()

    def _start_due(self) -> None:
        now = time.monotonic()
        for slot in self._slots:
            if slot.process is None and slot.start_at <= now:
                slot.process = process = ModelProcess(self._launch.start())
                log.info("model process started", extra={"pid": process.pid, "python": self._launch.python})
                for descriptor, read in (
                    (process.pidfd, partial(self._ended, slot, process)),
                    (process.started.status, partial(self._read_status, slot, process)),
                    (_fileno(process.started.process.stdout), partial(self._read_output, slot, process, "stdout")),
                    (_fileno(process.started.process.stderr), partial(self._read_output, slot, process, "stderr")),
                ):
                    os.set_blocking(descriptor, False) if descriptor != process.pidfd else None
                    self._selector.register(descriptor, selectors.EVENT_READ, read)

    def _read_status(self, slot: _Slot, process: ModelProcess) -> None:
        process.read_status(self._read(process.started.status))
        if process.state is State.SERVING and process not in self._serving:
            slot.failed_starts = 0
            self._has_served = True
            self._serving = (*self._serving, process)
            log.info("model process serves", extra={"pid": process.pid, "seconds": process.seconds})
            self._tell()

    def _read_output(self, slot: _Slot, process: ModelProcess, stream: str) -> None:
        pipe = process.started.process.stdout if stream == "stdout" else process.started.process.stderr
        for line in process.read_output(stream, self._read(_fileno(pipe))):
            self._log_line(slot, process, line)

    def _log_line(self, slot: _Slot, process: ModelProcess, line: Line) -> None:
        slot.lines += 1
        if slot.lines <= OUTPUT_LINES:
            model_log.info(line.text, extra={"pid": process.pid, "stream": line.stream})
        elif slot.lines == OUTPUT_LINES + 1:
            log.warning("the model writes more than is logged", extra={"pid": process.pid})

    def _read(self, descriptor: int) -> bytes:
        try:
            data = os.read(descriptor, OUTPUT_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            with contextlib.suppress(KeyError):
                self._selector.unregister(descriptor)
        return data

    # Ends and beginnings ------------------------------------------------------------------------------------------

    def _ended(self, slot: _Slot, process: ModelProcess) -> None:
        """A process has ended by itself, or by our hand: its calls are told, and another takes its place in a while."""
        process.started.process.wait()
        process.started.kill()  # what it has left behind
        self._read_status(slot, process)
        for stream in ("stderr", "stdout"):
            self._read_output(slot, process, stream)
        served = process in self._serving
        self._serving = tuple(other for other in self._serving if other is not process)
        process.state = State.ENDED
        self._why_not = f"the model process {process.ending}{process.last_words}"
        if not served or process.failure is not None:
            self._judge_failed_start(slot, process)
        self._tell()  # before the calls: who has heard of the end must find health saying so
        process.calls.bury()
        self._forget(process)
        slot.process = None
        delay = min(FIRST_DELAY * 2 ** max(0, slot.failed_starts - 1), LONGEST_DELAY)
        delay *= random.uniform(0.5, 1.5) if slot.failed_starts else 1.0
        slot.start_at = time.monotonic() + (delay if slot.failed_starts else 0.0)
        self.restarts += 1
        log.error("model process ended", extra={"pid": process.pid, "reason": self._why_not, "restart_in": delay})

    def _judge_failed_start(self, slot: _Slot, process: ModelProcess) -> None:
        """A process that never served: for good where the model says why itself and never served at all, else a few times."""
        slot.failed_starts += 1
        failure = process.failure
        if failure is not None:
            self._why_not = str(failure)
            if not self._has_served:
                raise failure
        if slot.failed_starts >= MAX_FAILED_STARTS:
            raise failure or CrashLoop(f"{self._why_not}; {slot.failed_starts} starts in a row came to nothing")

    def _forget(self, process: ModelProcess) -> None:
        started = process.started
        for descriptor in (
            process.pidfd,
            started.status,
            _fileno(started.process.stdout),
            _fileno(started.process.stderr),
        ):
            with contextlib.suppress(KeyError):
                self._selector.unregister(descriptor)
        process.close()

    def _tell(self) -> None:
        if self._stopping.is_set():
            return
        if self._serving:
            self._on_change(HostState(Phase.SERVING, "ok"))
        else:
            self._on_change(HostState(Phase.LOADING, f"{self._why_not}; it is being started again"))

    def _give_up(self, error: ModelRuntimeError) -> None:
        self._why_not = str(error)
        self._on_change(HostState(Phase.FAILED, str(error), error))

    def _end_all(self) -> None:
        """Hangs up, which a process takes as the order to end; kills those that do not."""
        self._serving = ()
        processes = [slot.process for slot in self._slots if slot.process is not None]
        for process in processes:
            process.started.channel.hang_up()
        end = time.monotonic() + STOP_SECONDS
        for process in processes:
            if process.state is State.LOADING:
                process.started.kill()
            with contextlib.suppress(Exception):
                process.started.process.wait(max(0.0, end - time.monotonic()))
            process.started.kill()
            process.started.process.wait()
            process.calls.bury()
            self._forget(process)
        for slot in self._slots:
            slot.process = None


def _fileno(pipe: object) -> int:
    return pipe.fileno()  # type: ignore[attr-defined,no-any-return]


def _end_of(process: ModelProcess) -> PredictionError:
    """What a call hears whose process ended while the model worked on it."""
    if process.state is not State.ENDED:
        return Cancelled("the caller has given up")
    kind = ModelTimeout if process.killed_for else ModelCrashed
    return kind(f"the model process {process.ending} while it was answering{process.last_words}")


def _outcome(frame: Frame) -> Outcome:
    if frame.kind != FAILURE:
        return Outcome(bytes(frame.payload), frame.code, frame.first, frame.second)
    told = json.loads(bytes(frame.payload))
    kind: type[PredictionError] = getattr(errors, told["error"])
    error = kind(told["summary"], [Violation(*violation) for violation in told["violations"]])
    return Outcome(error, frame.code, frame.first, frame.second)
