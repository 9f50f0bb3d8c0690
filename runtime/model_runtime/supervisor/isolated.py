"""The host whose model lives in processes of its own: gives calls to the least busy one, and keeps them alive.

One thread, the supervisor's, starts processes, reads what they say, notices their end and starts them again. The threads that
call never touch anything but `ModelProcess.calls`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import selectors
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..errors import Cancelled, CrashLoop, LoadTimeout, ModelError, ModelRuntimeError, NotServing, PredictionError
from ..model.config import METHODS
from ..outcome import Outcome
from .calls import Gone
from .host import Cancellation, Done, HostState, Phase, withheld
from .launch import Launch
from .process import KILL_SECONDS, Line, ModelProcess, State
from .replies import Record

log = logging.getLogger(__name__)
model_log = logging.getLogger("model_runtime.model_output")
record_log = logging.getLogger("model_runtime.model")  # of our own part of a model process

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
    postponed: int = 0  # starts in a row for which the system had no resources
    lines: int = 0  # logged since the last tick


class IsolatedHost:
    """`processes` model processes behind the boundary."""

    def __init__(self, launch: Launch, *, processes: int, timeout: float, load_timeout: float) -> None:
        self._launch = launch
        self._timeout, self._load_timeout = timeout, load_timeout
        self._slots = [_Slot() for _ in range(processes)]
        self._serving: tuple[ModelProcess, ...] = ()  # replaced whole, so that callers need no lock
        self._has_served = False
        self._problem = ""  # what this system cannot do to keep model processes in hand
        self._why_not = "the model is not loaded"  # clients hear it
        self._on_change: Callable[[HostState], None] = lambda _state: None
        self._stopping = threading.Event()
        self._ticked = self._counted = time.monotonic()
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

        def answered(answer: Outcome | Gone) -> None:
            if isinstance(answer, Outcome):
                done(answer)
            elif answer.begun:
                done(Outcome(self._end_of(process)))
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
                    if self._selector.get_map().get(key.fd) is key:  # not closed by one before it
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
        now = time.monotonic()
        is_due, self._ticked = now - self._counted >= TICK_SECONDS, now
        self._counted = now if is_due else self._counted
        for slot in self._slots:
            if is_due:
                slot.lines = 0
            if slot.process is not None:
                self._check_progress(slot.process)

    def _check_progress(self, process: ModelProcess) -> None:
        """Ends a process that works on a call, or loads, for longer than it may, or that sent what cannot be read."""
        if process.calls.violation:
            process.distrust(process.calls.violation)
        elif process.state is State.LOADING and process.seconds > self._load_timeout:
            process.end(f"did not load within {self._load_timeout:g} s (MODEL_LOAD_TIMEOUT)")
        elif process.state is State.SERVING and self._timeout and process.calls.busy().seconds > self._timeout:
            process.end(f"did not answer within {self._timeout:g} s (MODEL_TIMEOUT) and was ended")
        process.insist()

    def _start_due(self) -> None:
        now = time.monotonic()
        for slot in self._slots:
            if slot.process is None and slot.start_at <= now:
                try:
                    self._start(slot)
                except (OSError, RuntimeError) as error:  # RuntimeError: no more threads
                    self._postpone(slot, str(getattr(error, "strerror", None) or error))

    def _start(self, slot: _Slot) -> None:
        process = ModelProcess(self._launch.start())
        try:
            process.calls.start()
            for descriptor, read in (
                (process.started.lease, partial(self._ended, slot, process)),
                (process.started.status, partial(self._read_status, slot, process)),
                (_fileno(process.started.process.stdout), partial(self._read_output, slot, process, "stdout")),
                (_fileno(process.started.process.stderr), partial(self._read_output, slot, process, "stderr")),
            ):
                os.set_blocking(descriptor, False)
                self._selector.register(descriptor, selectors.EVENT_READ, read)
        except (OSError, RuntimeError):
            self._discard(process)
            raise
        slot.process = process

    def _postpone(self, slot: _Slot, problem: str) -> None:
        """The system has no resources for a process now, which says nothing against the model: tried again until it has."""
        delay = _delay(slot.postponed)
        slot.postponed += 1
        slot.start_at = time.monotonic() + delay
        self._why_not = f"the model process cannot be started: {problem}"
        log.error("model process not started", extra={"reason": problem, "try_in": delay})
        self._tell()

    def _read_status(self, slot: _Slot, process: ModelProcess) -> None:
        pid = process.pid
        for record in process.read_status(self._read(process.started.status)):
            self._log_record(slot, process, record)
        if process.pid != pid:
            slot.postponed = 0
            log.info("model process started", extra={"pid": process.pid, "python": self._launch.python})
            self._note(process.problem)
        if process.state is State.SERVING and process not in self._serving:
            slot.failed_starts = 0
            self._has_served = True
            self._serving = (*self._serving, process)
            log.info("model process serves", extra={"pid": process.pid, "seconds": process.seconds})
            self._tell()

    def _note(self, problem: str) -> None:
        if problem and not self._problem:
            text = "programs that the model starts in sessions of their own may outlive it"
            log.warning(text, extra={"problem": problem})
            self._problem = problem

    def _log_record(self, slot: _Slot, process: ModelProcess, record: Record) -> None:
        if self._may_log(slot, process) and record_log.isEnabledFor(record.level):
            made = logging.LogRecord(record_log.name, record.level, "", 0, record.message, (), None)
            vars(made).update(record.fields, pid=process.pid, exc_text=record.exception or None)
            record_log.handle(made)

    def _read_output(self, slot: _Slot, process: ModelProcess, stream: str) -> None:
        pipe = process.started.process.stdout if stream == "stdout" else process.started.process.stderr
        for line in process.read_output(stream, self._read(_fileno(pipe))):
            self._log_line(slot, process, line)

    def _log_line(self, slot: _Slot, process: ModelProcess, line: Line) -> None:
        if self._may_log(slot, process):
            model_log.info(line.text, extra={"pid": process.pid, "stream": line.stream})

    def _may_log(self, slot: _Slot, process: ModelProcess) -> bool:
        slot.lines += 1
        if slot.lines == OUTPUT_LINES + 1:
            log.warning("the model writes more than is logged", extra={"pid": process.pid})
        return slot.lines <= OUTPUT_LINES

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
        self._read_status(slot, process)
        for stream in ("stderr", "stdout"):
            self._read_output(slot, process, stream)
        served = process in self._serving
        self._serving = tuple(other for other in self._serving if other is not process)
        process.state = State.ENDED
        if process.unstarted:
            self._postpone(slot, process.unstarted)
        else:
            self._judge(slot, process, served)
        process.calls.bury()
        self._forget(process)
        slot.process = None

    def _judge(self, slot: _Slot, process: ModelProcess, served: bool) -> None:
        """Says why a process ended, to operators and, without the model's own words, to clients, and when the next starts."""
        if process.calls.violation:
            process.distrust(process.calls.violation)
        ending = f"the model process {process.ending}"
        cause = f"{ending}{process.last_words}"
        self._why_not = cause if self._shows_details else ending
        if not served or process.failure is not None:
            self._judge_failed_start(slot, process, cause)
        self._tell()  # before the calls: who has heard of the end must find health saying so
        delay = _delay(slot.failed_starts - 1) if slot.failed_starts else 0.0
        slot.start_at = time.monotonic() + delay
        self.restarts += 1
        log.error("model process ended", extra={"pid": process.pid, "reason": cause, "restart_in": delay})

    def _judge_failed_start(self, slot: _Slot, process: ModelProcess, cause: str) -> None:
        """A process that never served: for good where the model says why itself and never served at all, else a few times."""
        slot.failed_starts += 1
        failure = process.failure
        if failure is not None:
            self._why_not = self._public(failure)
            if not self._has_served:
                raise failure
        if slot.failed_starts >= MAX_FAILED_STARTS:
            kind = LoadTimeout if process.is_overdue else CrashLoop
            raise failure or kind(f"{cause}; {slot.failed_starts} starts in a row came to nothing")

    @property
    def _shows_details(self) -> bool:
        return self._launch.options.error_details

    def _public(self, error: ModelRuntimeError) -> str:
        """What clients hear of an error that holds the model's own words."""
        return str(error) if self._shows_details else withheld(error)

    def _forget(self, process: ModelProcess) -> None:
        started = process.started
        for descriptor in (
            started.lease,
            started.status,
            _fileno(started.process.stdout),
            _fileno(started.process.stderr),
        ):
            with contextlib.suppress(KeyError):
                self._selector.unregister(descriptor)
        process.close()

    def _discard(self, process: ModelProcess) -> None:
        """Takes back a process that was started and cannot be used."""
        process.end("cannot be used")
        process.started.process.wait()
        process.calls.bury()
        self._forget(process)

    def _tell(self) -> None:
        if self._stopping.is_set():
            return
        if self._serving:
            self._on_change(HostState(Phase.SERVING, "ok"))
        else:
            self._on_change(HostState(Phase.LOADING, f"{self._why_not}; it is being started again"))

    def _give_up(self, error: ModelRuntimeError) -> None:
        self._why_not = self._public(error)
        self._on_change(HostState(Phase.FAILED, self._why_not, error))

    def _end_all(self) -> None:
        """Hangs up, which a process takes as the order to end; kills those that do not."""
        self._serving = ()
        processes = [slot.process for slot in self._slots if slot.process is not None]
        for process in processes:
            process.started.channel.hang_up()
        end = time.monotonic() + STOP_SECONDS
        for process in processes:
            if process.state is State.SERVING:
                self._await_end(process, end)
            process.started.kill()
        for process in processes:
            if not self._await_end(process, time.monotonic() + KILL_SECONDS):
                process.started.kill_by_force(process.pid)
                process.started.process.wait()
            process.calls.bury()
            self._forget(process)
        for slot in self._slots:
            slot.process = None

    def _await_end(self, process: ModelProcess, end: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.started.process.wait(max(0.0, end - time.monotonic()))
            return True
        return False

    def _end_of(self, process: ModelProcess) -> PredictionError:
        """What a call hears whose process ended while the model worked on it."""
        if process.state is not State.ENDED:
            return Cancelled("the caller has given up")
        words = process.last_words if self._shows_details else ""
        return process.blame(f"the model process {process.ending} while it was answering{words}")


def _delay(failures: int) -> float:
    """How long to wait before the next start, after so many failures before the last one."""
    return float(min(FIRST_DELAY * 2**failures, LONGEST_DELAY) * random.uniform(0.5, 1.5))


def _fileno(pipe: object) -> int:
    return pipe.fileno()  # type: ignore[attr-defined,no-any-return]
