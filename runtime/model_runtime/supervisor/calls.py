"""Calls to one model process: sent down its channel by whoever makes them, answered by the thread that reads it.

Nobody who makes a call ever waits. What the socket does not take at once, a large request or one to a process that is behind, a
writer sends, which is started when it is first needed.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ..model.channel import CALL, CANCEL, Channel, Frame, Payload, pieces
from ..model.config import TAKEN

log = logging.getLogger(__name__)


class Gone(NamedTuple):
    """In place of an answer: the process ended before, or the caller gave up."""

    begun: bool  # whether it had been handed to the model; if not, another process may be asked


class Busy(NamedTuple):
    """How a process is occupied."""

    calls: int
    seconds: float  # since it last showed that it gets on: an answer, or a call after idleness


Answered = Callable[["Frame | Gone"], None]


class Calls:
    """The calls that one model process has been given."""

    def __init__(self, channel: Channel, shared: object) -> None:
        self._channel = channel
        self._shared = shared
        self._lock = threading.Lock()  # of everything below
        self._behind: deque[Payload] = deque()  # what the socket has not taken yet
        self._more = threading.Condition(self._lock)  # is behind, or gone
        self._writer: threading.Thread | None = None
        self._asked: dict[int, Answered] = {}
        self._last = 0
        self._progress = time.monotonic()
        self._is_gone = False
        self._reader = threading.Thread(target=self._read, name="answers", daemon=True)
        self._reader.start()

    @property
    def count(self) -> int:
        return len(self._asked)

    def waiting(self) -> int:
        """How many of them the model has not begun."""
        with self._lock:
            if self._is_gone:
                return 0
            begun = self._begun()
            return sum(number > begun for number in self._asked)

    def busy(self) -> Busy:
        with self._lock:
            return Busy(len(self._asked), time.monotonic() - self._progress if self._asked else 0.0)

    def submit(
        self,
        method: int,
        request: bytes,
        deadline: float,
        on_cancel: Callable[[Callable[[], None]], bool],
        answered: Answered,
    ) -> None:
        """Sends a request. `answered` is told the answer or failure, or Gone: once, in another thread or before this returns.

        `on_cancel` is given what to do when the caller gives up, and says whether the call is still wanted.
        """
        with self._lock:
            is_gone = self._is_gone
            if not is_gone:
                if not self._asked:
                    self._progress = time.monotonic()
                self._last = number = self._last + 1
                self._asked[number] = answered
                self._post(Frame(CALL, method, number, request, deadline))
        if is_gone:
            answered(Gone(begun=False))
        elif not on_cancel(functools.partial(self._cancel, number)):
            self._cancel(number)

    def _cancel(self, number: int) -> None:
        """The caller has given up: unless the model has begun, the process drops the call."""
        with self._lock:
            if self._is_gone or self._begun() >= number:
                return
            answered = self._asked.pop(number, None)
            if answered is None:
                return
            self._post(Frame(CANCEL, 0, number))
        answered(Gone(begun=True))

    # Sending ------------------------------------------------------------------------------------------------------

    def _post(self, frame: Frame) -> None:
        """Under the lock, so that frames go out in the order of their numbers."""
        unsent = pieces((frame,))
        if not self._behind:
            try:
                unsent = self._channel.send_now(unsent)
            except OSError:  # the process is gone: `bury` will say so to those who wait
                return
            if not unsent:
                return
        self._behind.extend(unsent)
        self._more.notify()
        if self._writer is None:
            self._writer = threading.Thread(target=self._write, name="requests", daemon=True)
            self._writer.start()

    def _write(self) -> None:
        while True:
            with self._lock:
                while not self._behind:
                    if self._is_gone:
                        return
                    self._more.wait()
                piece = self._behind[0]
            with contextlib.suppress(OSError):
                self._channel.stream.sendall(piece)
            with self._lock:
                self._behind.popleft()

    # Reading ------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        while True:
            try:
                frames = self._channel.receive()
            except (EOFError, OSError):
                return
            with self._lock:
                self._progress = time.monotonic()
                told = [(self._asked.pop(frame.id, None), frame) for frame in frames]
            for answered, frame in told:
                if answered is not None:
                    _tell(answered, frame)

    # The end ------------------------------------------------------------------------------------------------------

    def bury(self) -> None:
        """The process has ended: what it still answered is delivered, and everybody else is told that it is gone."""
        with self._lock:
            self._is_gone = True
            self._more.notify()
        self._channel.hang_up()  # what has arrived can still be read
        self._reader.join()
        if self._writer is not None:
            self._writer.join()
        with self._lock:
            begun = self._begun()
            left, self._asked = self._asked, {}
        for number, answered in left.items():
            _tell(answered, Gone(begun=number <= begun))

    def _begun(self) -> int:
        """The last call that the model was handed. Calls are taken in the order in which they were sent."""
        return int(TAKEN.unpack_from(self._shared)[0])  # type: ignore[arg-type]


def _tell(answered: Answered, answer: Frame | Gone) -> None:
    try:
        answered(answer)
    except Exception:  # the thread must go on for the others
        log.exception("a call ended in an internal error")
