"""What can go wrong between the operator and the API server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ClusterError(Exception):
    """The root."""


class Unavailable(ClusterError):
    """No answer, or one that says `later` (429, 5xx), after the retries of one call: the work is queued again."""


class NotLeading(ClusterError):
    """Another replica leads: nothing may be written."""


class Contested(ClusterError):
    """Another operator manages the ModelRuntime: it is left alone until that operator is gone."""


class Stale(ClusterError):
    """The object has changed, or is going away, since the caches saw it: the work is queued again."""


class Foreign(ClusterError):
    """An object of that name exists and is somebody else's: it is not touched."""


class Refused(ClusterError):
    """The API server says no, and will say no again."""

    def __init__(self, status: int, answer: Mapping[str, Any] | str, what: str) -> None:
        self.status = status
        self.reason = str(answer.get("reason", "")) if isinstance(answer, Mapping) else ""
        self.message = str(answer.get("message", "")) if isinstance(answer, Mapping) else str(answer)[:500]
        super().__init__(f"{what}: {self.message or status}")
