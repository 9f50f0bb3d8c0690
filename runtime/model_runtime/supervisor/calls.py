"""Calls to one model process: sent down its channel by whoever makes them, answered by the thread that reads it.

Nobody who makes a call ever waits. What the socket does not take at once, a large request or one to a process that is behind, the
writer's thread sends. A call whose caller gives up leaves the writer's queue at once, and its bytes with it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from ..model.channel import CALL, CANCEL, DROPPED, Channel, ChannelError, Frame, Payload, pieces
from ..outcome import Outcome
from . import replies

log = logging.getLogger(__name__)


class Gone(NamedTuple):
    """In place of an answer: the process ended before, or the caller gave up."""

    begun: bool  # whether it had been handed to the model; if not, another process may be asked


class Busy(NamedTuple):
    """How a process is occupied."""

    calls: int
    seconds: float  # since it last made progress: an answer, or a call after idleness


Answered = Callable[["Outcome | Gone"], None]


class Calls:
    """The calls that one model process has been given. `begun` returns the last one that the model began."""

    def __init__(self, channel: Channel, begun: Callable[[], int]) -> None:
        self._channel = channel
        self._begun = begun  # calls are begun in the order in which they were sent
        self._lock = threading.Lock()  # of everything below
        self._unsent: dict[int, list[Payload]] = {}  # in order: calls by their number, cancellations by its negative
        self._sending = 0  # which of them the socket has a part of already
        self._more = threading.Condition(self._lock)  # is unsent, or gone
        self._asked: dict[int, Answered] = {}
        self._leaving: dict[int, Answered] = {}  # cancelled while they are being sent
        self._owed: set[int] = set()  # sent, and not replied to yet
        self._last = 0
        self._progress = time.monotonic()
        self._is_gone = False
        self.violation = ""  # what arrived that is not a reply; nothing can be read behind it
        self._reader = threading.Thread(target=self._read, name="answers", daemon=True)
        self._writer = threading.Thread(target=self._write, name="requests", daemon=True)

    def start(self) -> None:
        """Starts the threads. Raises RuntimeError where the system has none left."""
        self._reader.start()
        self._writer.start()

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
            is_busy = self._asked or self._owed
            return Busy(len(self._asked), time.monotonic() - self._progress if is_busy else 0.0)

    def submit(
        self,
        method: int,
        request: bytes,
        deadline: float,
        on_cancel: Callable[[Callable[[], None]], bool],
        answered: Answered,
    ) -> None:
        """Sends a request. `answered` is told the outcome, or Gone: once, in another thread or before this returns.

        `on_cancel` is given what to do when the caller gives up, and says whether the call is still wanted.
        """
        with self._lock:
            is_gone = self._is_gone
            if not is_gone:
                if not self._asked and not self._owed:
                    self._progress = time.monotonic()
                self._last = number = self._last + 1
                self._asked[number] = answered
                self._post(number, Frame(CALL, method, number, request, deadline))
        if is_gone:
            answered(Gone(begun=False))
        elif not on_cancel(functools.partial(self._cancel, number)):
            self._cancel(number)

    def _cancel(self, number: int) -> None:
        """The caller has given up: unless the model has begun, the call is dropped. Told when its bytes have left us."""
        with self._lock:
            if self._is_gone or self._begun() >= number:
                return
            answered = self._asked.pop(number, None)
            if answered is None:
                return
            if number in self._unsent and number != self._sending:
                del self._unsent[number]
            else:
                if number in self._unsent:
                    self._leaving[number] = answered
                    answered = None
                self._post(-number, Frame(CANCEL, 0, number))
        if answered is not None:
            answered(Gone(begun=True))

    # Sending ------------------------------------------------------------------------------------------------------

    def _post(self, key: int, frame: Frame) -> None:
        """Under the lock, so that frames go out in the order of their numbers."""
        whole = unsent = pieces((frame,))
        if not self._unsent:
            try:
                unsent = self._channel.send_now(whole)
            except OSError:  # the process is gone: `bury` tells those who wait
                return
            if unsent is not whole:
                self._begin(key)
            if not unsent:
                return
        self._unsent[key] = unsent
        self._more.notify()

    def _begin(self, key: int) -> None:
        """The socket takes the first part of a frame: from now on it must be sent whole."""
        self._sending = key
        if key > 0:
            self._owed.add(key)

    def _write(self) -> None:
        while True:
            with self._lock:
                while not self._unsent:
                    if self._is_gone:
                        return
                    self._more.wait()
                key, unsent = next(iter(self._unsent.items()))
                self._begin(key)
            with contextlib.suppress(OSError):  # as above
                self._channel.send_pieces(unsent)
            del unsent
            with self._lock:
                del self._unsent[key]
                left = self._leaving.pop(key, None)
            if left is not None:
                _tell(left, Gone(begun=True))

    # Reading ------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            while True:
                for frame in self._channel.receive():
                    self._reply(frame)
        except (EOFError, OSError):
            return
        except Exception as error:  # noqa: BLE001  # whatever it is, the thread's end must be noticed
            self.violation = str(error) if isinstance(error, ChannelError) else f"{type(error).__name__}: {error}"
            self._channel.hang_up()

    def _reply(self, frame: Frame) -> None:
        outcome = None if frame.kind == DROPPED else replies.outcome(frame)
        with self._lock:
            if frame.id not in self._owed:
                raise ChannelError(f"expected the reply to a call, got one to number {frame.id}, which is not open")
            if outcome is None and frame.id in self._asked:
                raise ChannelError(f"expected an answer, got the word that call {frame.id} was dropped")
            self._owed.discard(frame.id)
            self._progress = time.monotonic()
            answered = self._asked.pop(frame.id, None)
        if answered is not None and outcome is not None:
            _tell(answered, outcome)

    # The end ------------------------------------------------------------------------------------------------------

    def bury(self) -> None:
        """The process has ended: what it still answered is delivered, and everybody else is told that it is gone."""
        with self._lock:
            self._is_gone = True
            self._more.notify()
        self._channel.hang_up()  # what has arrived can still be read
        for thread in (self._reader, self._writer):
            if thread.ident is not None:
                thread.join()
        with self._lock:
            begun = self._begun()
            left, self._asked = self._asked, {}
        for number, answered in left.items():
            _tell(answered, Gone(begun=number <= begun))


def _tell(answered: Answered, answer: Outcome | Gone) -> None:
    try:
        answered(answer)
    except Exception:  # the thread must go on for the others
        log.exception("a call ended in an internal error")
