"""What may watch predictions go by: metrics and tracing. They see sizes, times and endings, never payloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import grpc

from ..outcome import Outcome

End = Callable[[Outcome], None]


class Observer(Protocol):
    """Told when a prediction begins; what it returns is told how it ended. Must not raise, and must be quick."""

    def begin(self, path: str, size: int, context: grpc.ServicerContext) -> End:
        """`path` is the method's, `size` the request's in bytes."""
