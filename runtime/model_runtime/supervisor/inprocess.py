"""The model in the server's own process: the simplest host. Its code shares our interpreter, its crash is ours."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..errors import Cancelled, ModelError, ModelRuntimeError, NotServing, PredictionError
from ..model import warmup
from ..model.service import RuntimeService
from ..outcome import Call, Outcome
from ..prediction import Predictor
from .host import Cancellation, Done, HostState, Phase, withheld

log = logging.getLogger(__name__)


class InProcessHost:
    """Loads the model in a thread and calls it in threads of its own."""

    restarts = 0

    def __init__(
        self, make_service: Callable[[], RuntimeService], *, threads: int, warm_up: bool, error_details: bool
    ) -> None:
        self._make_service = make_service
        self._warm_up, self._shows_details = warm_up, error_details
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="model")
        self._waiting: set[Done] = set()
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
            self._fail(error, on_change)
        except BaseException as error:  # whatever a model raises: this thread's end must be told
            log.error("the model cannot be loaded", exc_info=error)
            self._fail(ModelError(f"the model cannot be loaded: {type(error).__name__}: {error}"), on_change)
        else:
            self._predictor = predictor
            on_change(HostState(Phase.SERVING, "ok"))

    def _fail(self, error: ModelRuntimeError, on_change: Callable[[HostState], None]) -> None:
        message = str(error) if self._shows_details else withheld(error)
        on_change(HostState(Phase.FAILED, message, error))

    def submit(
        self, method: str, request: bytes, timeout: float | None, cancellation: Cancellation, done: Done
    ) -> None:
        predictor = self._predictor
        if predictor is None:
            done(Outcome(NotServing("the model is not loaded")))
            return
        deadline = 0.0 if timeout is None else time.monotonic() + timeout
        self._waiting.add(done)
        begun = self._threads.submit(self._answer, predictor, Call(method, request, deadline), done)

        def cancel() -> None:
            if begun.cancel():
                self._waiting.discard(done)
                done(Outcome(Cancelled("the caller has given up")))

        if not cancellation(cancel):
            cancel()

    def _answer(self, predictor: Predictor, call: Call, done: Done) -> None:
        self._waiting.discard(done)
        try:
            [outcome] = predictor.handle_all([call])
        except BaseException as error:  # the last net below whatever the model does
            log.error("internal error", exc_info=error, extra={"method": call.method})
            outcome = Outcome(PredictionError("internal error"))
        done(outcome)

    def waiting(self) -> int:
        return len(self._waiting)

    def pids(self) -> list[int]:
        return []

    def is_alive(self) -> bool:
        return True

    def stop(self) -> None:
        self._predictor = None
        self._threads.shutdown(wait=False, cancel_futures=True)
