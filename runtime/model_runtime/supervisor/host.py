"""What the server needs of whoever holds the model: one boundary, in this process or beyond a socket."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple, Protocol

from ..errors import ModelRuntimeError
from ..outcome import Outcome


class Phase(enum.Enum):
    LOADING = "loading"
    SERVING = "serving"
    FAILED = "failed"


class HostState(NamedTuple):
    """Whether the model can answer, and if not, why."""

    phase: Phase
    message: str = ""  # what clients hear
    error: ModelRuntimeError | None = None  # why it failed, where that is for good; what operators hear


def withheld(error: ModelRuntimeError) -> str:
    """What clients hear where MODEL_ERROR_DETAILS keeps the model's own words from them."""
    return f"the model cannot serve ({type(error).__name__}): see the runtime's log"


Cancellation = Callable[[Callable[[], None]], bool]
"""Takes what to do when the caller gives up; says whether the call is still wanted. gRPC's `context.add_callback` is one."""


Done = Callable[[Outcome], None]
"""Told how a prediction ended: once, from any thread, perhaps before `submit` returns. Must be quick, and not raise."""


class Host(Protocol):
    """Holds a model and answers for it. `submit` knows no transport: raw bytes in, an outcome back."""

    def start(self, on_change: Callable[[HostState], None]) -> None:
        """Begins to load the model and returns at once; `on_change` hears of every change of state, from any thread."""

    restarts: int
    """Model processes that ended so far."""

    def submit(
        self, method: str, request: bytes, timeout: float | None, cancellation: Cancellation, done: Done
    ) -> None:
        """Asks for a Predict of any era and returns at once. `timeout` is what is left of the caller's deadline, in seconds."""

    def waiting(self) -> int:
        """How many predictions the model has not begun."""

    def pids(self) -> list[int]:
        """The model processes that serve now."""

    def is_alive(self) -> bool:
        """Whether the host itself gets on; what probes of the process ask."""

    def stop(self) -> None:
        """Ends the model. Nothing is in flight any more."""
