"""A prediction as it is asked for and as it ends: what server, supervisor and model process hand each other. No tensors."""

from __future__ import annotations

from typing import Any, NamedTuple, Union

from .errors import PredictionError


class Call(NamedTuple):
    """A prediction that is asked for: the gRPC path, the request's bytes, and its deadline on the monotonic clock (0: none)."""

    method: str
    data: Any  # bytes, or any other buffer
    deadline: float = 0.0


class Outcome(NamedTuple):
    """How a call ended: the answer's bytes or the error; how many calls the model answered at once, and in what time."""

    result: Union[bytes, PredictionError]
    batch: int = 1
    model_seconds: float = 0.0
    codec_seconds: float = 0.0
