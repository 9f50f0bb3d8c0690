"""One model process as the supervisor sees it: its state, its last words, and what may be asked of it."""

from __future__ import annotations

import signal
import time
from collections import deque
from enum import Enum
from typing import NamedTuple

from ..errors import ModelCrashed, ModelRuntimeError, ModelTimeout, PredictionError
from ..model.channel import ChannelError
from . import replies
from .calls import Calls
from .launch import Started
from .replies import Failed, Record, Serving, Unstarted

LAST_LINES = 20  # of stderr, kept to explain an end
KILL_SECONDS = 10.0  # for the guardian to end, which waits five for what it kills
_LINE_BYTES = 8192  # a longer line is cut


class State(Enum):
    LOADING = "loading"
    SERVING = "serving"
    ENDED = "ended"


class Line(NamedTuple):
    """A line that the model wrote."""

    stream: str
    text: str


class ModelProcess:
    """A model process, from its start to its end. Everything but `calls` belongs to the supervisor's thread."""

    def __init__(self, started: Started) -> None:
        self.started = started
        self.pid = started.process.pid  # its guardian's, until it has told its own
        self.calls = Calls(started.channel, started.begun)
        self.state = State.LOADING
        self.since = time.monotonic()
        self.failure: ModelRuntimeError | None = None  # why it cannot load, in its own words
        self.unstarted = ""  # what the system had none of for its start
        self.problem = ""  # what the system cannot do to keep it in hand
        self.blame: type[PredictionError] = ModelCrashed  # how calls end that it worked on
        self._killed_at = 0.0
        self._killed_for = ""
        self._detail = ""  # what it did that it was ended for; for operators
        self._status = replies.StatusReader()
        self._partial = {"stdout": b"", "stderr": b""}
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)

    # What it says -------------------------------------------------------------------------------------------------

    def read_status(self, data: bytes) -> list[Record]:
        """A piece of what it told of its state. Returns what is to be logged; ends a process that tells nonsense."""
        records: list[Record] = []
        try:
            for status in self._status.read(data):
                if isinstance(status, Record):
                    records.append(status)
                else:
                    self._turn(status)
        except ChannelError as error:
            self.distrust(str(error))
        return records

    def _turn(self, status: replies.Status) -> None:
        if isinstance(status, (Unstarted, replies.Started)):
            if self.pid != self.started.process.pid:
                raise ChannelError("expected one start of a process, got another")
            if isinstance(status, Unstarted):
                self.unstarted = status.problem
            else:
                self.pid, self.problem = status.pid, status.problem
        elif self.state is not State.LOADING or self.failure is not None:
            raise ChannelError(f"expected one end of loading, got another: {type(status).__name__.lower()}")
        elif isinstance(status, Serving):
            self.state = State.SERVING
        elif isinstance(status, Failed):
            self.failure = status.error

    def read_output(self, stream: str, data: bytes) -> list[Line]:
        """The whole lines in a piece of its output; at the end of a stream (no data) also one that was begun."""
        pieces = (self._partial[stream] + data).split(b"\n")
        self._partial[stream] = pieces.pop() if data else b""
        if len(self._partial[stream]) > _LINE_BYTES:
            pieces.append(self._partial[stream])
            self._partial[stream] = b""
        lines = [Line(stream, piece[:_LINE_BYTES].decode("utf-8", "replace")) for piece in pieces if piece.strip()]
        if stream == "stderr":
            self._last_lines.extend(line.text for line in lines)
        return lines

    # How it ended -------------------------------------------------------------------------------------------------

    def end(self, reason: str, blame: type[PredictionError] = ModelTimeout) -> None:
        """Ends it and everything that it started. Calls that it works on end with `blame`."""
        if not self._killed_for:
            self._killed_for, self.blame, self._killed_at = reason, blame, time.monotonic()
        self.started.kill()

    def distrust(self, detail: str) -> None:
        """Ends it because it sent what it may not."""
        self._detail = self._detail or f": {detail}"
        self.end("broke the protocol of its channel and was ended", ModelCrashed)

    def insist(self) -> None:
        """Ends it by force where it has not ended long after it should have."""
        if self._killed_for and time.monotonic() - self._killed_at > KILL_SECONDS:
            self.started.kill_by_force(self.pid)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.since

    @property
    def is_overdue(self) -> bool:
        """Whether it was ended because it took longer than it may."""
        return bool(self._killed_for) and self.blame is ModelTimeout

    @property
    def ending(self) -> str:
        """`died of signal 9 (SIGKILL)`, or what we ended it for."""
        return self._killed_for or _ending(self.started.process.returncode)

    @property
    def last_words(self) -> str:
        """What it did that it was ended for, and what it wrote to stderr: `; last words: …`. The model's own text."""
        words = " | ".join(self._last_lines)[-500:]
        return self._detail + (f"; last words: {words}" if words else "")

    def close(self) -> None:
        self.started.close()


def _ending(returncode: int | None) -> str:
    if returncode is None:
        return "is gone"
    if returncode >= 0:
        return f"ended with exit status {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = "unknown"
    hint = ", perhaps for want of memory" if name == "SIGKILL" else ""
    return f"died of signal {-returncode} ({name}{hint})"
