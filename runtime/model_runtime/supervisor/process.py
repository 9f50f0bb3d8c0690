"""One model process as the supervisor sees it: its state, its last words, and what may be asked of it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import deque
from enum import Enum
from typing import NamedTuple

from .. import errors
from ..errors import ModelError, ModelRuntimeError
from .calls import Calls
from .launch import Started

LAST_LINES = 20  # of stderr, kept to explain an end
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
        self.pid = started.process.pid
        self.pidfd = os.pidfd_open(self.pid)
        self.calls = Calls(started.channel, started.shared)
        self.state = State.LOADING
        self.since = time.monotonic()
        self.failure: ModelRuntimeError | None = None  # why it cannot load, in its own words
        self.killed_for = ""  # why we ended it
        self._status = b""
        self._partial = {"stdout": b"", "stderr": b""}
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)

    # What it says -------------------------------------------------------------------------------------------------

    def read_status(self, data: bytes) -> None:
        """A piece of what it told of its state."""
        *lines, self._status = (self._status + data).split(b"\n")
        for line in lines:
            told = json.loads(line)
            if told["phase"] == "serving":
                self.state = State.SERVING
            else:
                kind = getattr(errors, told["error"], ModelError)
                self.failure = kind(told["message"])

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

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.since

    @property
    def ending(self) -> str:
        """`died of signal 9 (SIGKILL)`, or what we ended it for."""
        return self.killed_for or _ending(self.started.process.returncode)

    @property
    def last_words(self) -> str:
        """`; last words: …`, where it wrote any to stderr."""
        words = " | ".join(self._last_lines)[-500:]
        return f"; last words: {words}" if words else ""

    def close(self) -> None:
        os.close(self.pidfd)
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
