"""The model in the server's own process: the simplest host. Its code shares our interpreter, its crash is ours."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from ..errors import DeadlineExceeded, ModelError, ModelRuntimeError, NotServing
from ..model import warmup
from ..model.service import RuntimeService
from ..prediction import Call, Outcome, Predictor
from .host import Cancellation, HostState, Phase

log = logging.getLogger(__name__)


class InProcessHost:
    """Loads the model in a thread and calls it in the callers' threads."""

    restarts = 0

    def __init__(self, make_service: Callable[[], RuntimeService], *, threads: int, warm_up: bool) -> None:
        self._make_service = make_service
        self._warm_up = warm_up
        self._slots = threading.BoundedSemaphore(threads)
        self._predictor: Predictor | None = None

    def start(self, on_change: Callable[[HostState], None]) -> None:
        on_change(HostState(Phase.LOADING, "the model is being loaded"))
        threading.Thread(target=self._load, args=(on_change,), name="model-load", daemon=True).start()

    def _load(self, on_change: Callable[[HostState], None]) -> None:
        try:
            service = self._make_service()
            service.load()
            predictor = Predictor(service)
            if self._warm_up:
                warmup.warm_up(predictor, service)
        except ModelRuntimeError as error:
            on_change(HostState(Phase.FAILED, str(error), error))
        except Exception as error:
            log.exception("the model cannot be loaded")
            failure = ModelError(f"the model cannot be loaded: {type(error).__name__}: {error}")
            on_change(HostState(Phase.FAILED, str(failure), failure))
        else:
            self._predictor = predictor
            on_change(HostState(Phase.SERVING, "ok"))

    def handle(self, method: str, request: bytes, timeout: float | None, cancellation: Cancellation) -> Outcome:
        predictor = self._predictor
        if predictor is None:
            return Outcome(NotServing("the model is not loaded"))
        deadline = 0.0 if timeout is None else time.monotonic() + timeout
        if not self._slots.acquire(timeout=-1 if timeout is None else timeout):
            return Outcome(DeadlineExceeded("the deadline passed while the call was waiting for the model"))
        try:
            [outcome] = predictor.handle_all([Call(method, request, deadline)])
        finally:
            self._slots.release()
        return outcome

    def pids(self) -> list[int]:
        return []

    def is_alive(self) -> bool:
        return True

    def stop(self) -> None:
        self._predictor = None
