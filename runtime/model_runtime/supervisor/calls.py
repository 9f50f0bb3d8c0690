"""Calls to one model process: sent down its channel by the threads that make them, which also read the answers.

Whoever waits, reads: the first thread that has nothing better to do receives the answers of all, wakes those whose answers came,
and hands the reading on when its own has come. A lone call costs no hand-over between threads, and many share each wake-up.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from ..model.channel import CALL, CANCEL, Channel, Frame
from ..model.process import TAKEN


class Gone(Exception):
    """The process ended before this call was answered."""

    def __init__(self, *, begun: bool) -> None:
        super().__init__("the model process ended")
        self.begun = begun  # whether it had been handed to the model; if not, another process may be asked


class Busy(NamedTuple):
    """How a process is occupied."""

    calls: int
    seconds: float  # since it last showed that it gets on: an answer, or a call after idleness


class _Waiter:
    """A thread that waits for the answer of one call."""

    __slots__ = ("frame", "gone", "lock")

    def __init__(self) -> None:
        self.frame: Frame | None = None
        self.gone: Gone | None = None
        self.lock = threading.Lock()
        self.lock.acquire()

    @property
    def done(self) -> bool:
        return self.frame is not None or self.gone is not None

    def wake(self) -> None:
        """Only under the lock of `Calls`."""
        if self.lock.locked():
            self.lock.release()


class Calls:
    """The calls that one model process has been given."""

    def __init__(self, channel: Channel, shared: object) -> None:
        self._channel = channel
        self._shared = shared
        self._lock = threading.Lock()  # of everything below
        self._outbox: list[Frame] = []  # what the thread that is sending now will send next
        self._is_sending = False
        self._reading = threading.Lock()
        self._waiters: dict[int, _Waiter] = {}
        self._last = 0
        self._progress = time.monotonic()
        self._is_gone = False

    @property
    def count(self) -> int:
        return len(self._waiters)

    def busy(self) -> Busy:
        with self._lock:
            return Busy(len(self._waiters), time.monotonic() - self._progress if self._waiters else 0.0)

    def call(
        self, method: int, request: bytes, deadline: float, on_cancel: Callable[[Callable[[], None]], bool]
    ) -> Frame:
        """The answer (or failure) to a request. Raises Gone when the process ends first.

        `on_cancel` is given what to do when the caller gives up, and says whether the call is still wanted.
        """
        waiter = _Waiter()
        with self._lock:
            if self._is_gone:
                raise Gone(begun=False)
            if not self._waiters:
                self._progress = time.monotonic()
            self._last = number = self._last + 1
            self._waiters[number] = waiter
            is_ours = self._post(Frame(CALL, method, number, request, deadline))
        if is_ours:
            self._send()
        if not on_cancel(lambda: self._cancel(number)):
            self._cancel(number)
        return self._answer(waiter)

    # Sending: one thread at a time, which also sends what the others post meanwhile ------------------------------------

    def _post(self, frame: Frame) -> bool:
        """Under the lock: puts the frame into the outbox. Whether it falls to this thread to send it."""
        self._outbox.append(frame)
        is_ours = not self._is_sending
        self._is_sending = True
        return is_ours

    def _send(self) -> None:
        while True:
            with self._lock:
                frames, self._outbox = self._outbox, []
                if not frames:
                    self._is_sending = False
                    return
            with contextlib.suppress(OSError):  # the process is gone: `bury` will say so to those who wait
                self._channel.send(frames)

    def _cancel(self, number: int) -> None:
        """The caller has given up: unless the model has begun, its thread is let go and the process drops the call."""
        with self._lock:
            waiter = self._waiters.get(number)
            if waiter is None or self._begun() >= number:
                return
            del self._waiters[number]
            waiter.gone = Gone(begun=True)
            waiter.wake()
            is_ours = self._post(Frame(CANCEL, 0, number))
        if is_ours:
            self._send()

    # Reading ------------------------------------------------------------------------------------------------------

    def _answer(self, waiter: _Waiter) -> Frame:
        while not waiter.done:
            if not self._reading.acquire(blocking=False):
                waiter.lock.acquire()  # until the answer is there, or it is our turn to read
                continue
            try:
                is_open = self._read_until(waiter)
            finally:
                self._reading.release()
            if not is_open:
                while not waiter.done:
                    waiter.lock.acquire()
            self._hand_on()
        if waiter.gone is not None:
            raise waiter.gone
        assert waiter.frame is not None
        return waiter.frame

    def _read_until(self, waiter: _Waiter) -> bool:
        """Receives until the waiter has its answer. False when the channel is closed before."""
        while not waiter.done:
            try:
                frames = self._channel.receive()
            except (EOFError, OSError):
                return waiter.done
            self._deliver(frames)
        return True

    def _deliver(self, frames: list[Frame]) -> None:
        with self._lock:
            self._progress = time.monotonic()
            for frame in frames:
                waiter = self._waiters.pop(frame.id, None)
                if waiter is not None:
                    waiter.frame = frame
                    waiter.wake()

    def _hand_on(self) -> None:
        """Wakes one of those who still wait, to read in our place."""
        with self._lock:
            for waiter in self._waiters.values():
                waiter.wake()
                return

    # The end ------------------------------------------------------------------------------------------------------

    def bury(self) -> None:
        """The process has ended: what it still answered is delivered, and everybody else is told that it is gone."""
        with self._lock:
            self._is_gone = True
        self._channel.hang_up()
        with self._reading:  # who reads now sees the end of the channel
            self._deliver(self._channel.left_over())
        with self._lock:
            begun = self._begun()
            for number, waiter in self._waiters.items():
                waiter.gone = Gone(begun=number <= begun)
                waiter.wake()
            self._waiters.clear()

    def _begun(self) -> int:
        """The last call that the model was handed. Calls are taken in the order in which they were sent."""
        return int(TAKEN.unpack_from(self._shared)[0])  # type: ignore[arg-type]
