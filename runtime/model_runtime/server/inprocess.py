"""The model in the server's own process: the simplest host. Its code shares our interpreter, its crash is ours."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ..errors import ModelError, ModelRuntimeError, NotServing
from ..model.service import RuntimeService
from ..prediction import Predictor
from .host import HostState, Phase

log = logging.getLogger(__name__)


class InProcessHost:
    """Loads the model in a thread and calls it in the callers' threads."""

    def __init__(self, make_service: Callable[[], RuntimeService]) -> None:
        self._make_service = make_service
        self._predictor: Predictor | None = None

    def start(self, on_change: Callable[[HostState], None]) -> None:
        on_change(HostState(Phase.LOADING, "the model is being loaded"))
        threading.Thread(target=self._load, args=(on_change,), name="model-load", daemon=True).start()

    def _load(self, on_change: Callable[[HostState], None]) -> None:
        try:
            service = self._make_service()
            service.load()
        except ModelRuntimeError as error:
            on_change(HostState(Phase.FAILED, str(error), error))
        except Exception as error:
            log.exception("the model cannot be loaded")
            failure = ModelError(f"the model cannot be loaded: {type(error).__name__}: {error}")
            on_change(HostState(Phase.FAILED, str(failure), failure))
        else:
            self._predictor = Predictor(service)
            on_change(HostState(Phase.SERVING, "ok"))

    def handle(self, method: str, request: bytes, timeout: float | None) -> bytes:
        predictor = self._predictor
        if predictor is None:
            raise NotServing("the model is not loaded")
        return predictor.handle(method, request, timeout)

    def stop(self) -> None:
        self._predictor = None
