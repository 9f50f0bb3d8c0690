"""The image's program: serves what the environment says, stops on SIGTERM and SIGINT, ends with a telling exit status."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from .. import errors, settings
from ..model.service import RuntimeService
from ..settings import Settings
from . import logs
from .host import HostState, Phase
from .manager import RuntimeManager

log = logging.getLogger(__name__)

OK = 0
UNEXPECTED = 1
EXIT_STATUS: dict[type[errors.ModelRuntimeError], int] = {
    errors.InvalidSetting: 2,
    errors.ModelNotFound: 3,
    errors.ContractError: 3,
    errors.SourceError: 3,
    errors.RequirementsFailed: 6,
    errors.ModelImportFailed: 4,
    errors.FunctionMissing: 4,
    errors.WarmupFailed: 4,
    errors.ModelError: 4,
    errors.PortUnavailable: 5,
}
EXIT_MEANINGS = {
    0: "stopped as asked",
    1: "a prediction or check that failed, or an error that should not happen",
    2: "a setting or option that cannot be used",
    3: "no model directory, contract or ModelRuntime file that can be read",
    4: "the model cannot be loaded: import, function or warm-up",
    5: "the port cannot be bound",
    6: "the model's requirements cannot be installed",
}

# The failure catalogue's word for each error: what the operator reads from the termination message.
REASONS: dict[type[errors.ModelRuntimeError], str] = {
    errors.InvalidSetting: "InvalidSetting",
    errors.ModelNotFound: "SourceEmpty",
    errors.ContractError: "ContractInvalid",
    errors.SourceError: "SourceNotFound",
    errors.ModelImportFailed: "ModelImportFailed",
    errors.FunctionMissing: "FunctionMissing",
    errors.WarmupFailed: "WarmupFailed",
    errors.ModelError: "ModelImportFailed",
    errors.PortUnavailable: "PortInUse",
    errors.RequirementsFailed: "RequirementsFailed",
}


def main(service: type[RuntimeService] = RuntimeService) -> int:
    """`python -m model_runtime`, and `serve(MyRuntime)` of a custom runtime: settings from the environment, exit status back."""
    try:
        wanted = settings.from_environment()
    except errors.InvalidSetting as error:
        logs.configure("info", "text")
        return report(error, Settings().termination_log)
    return serve(wanted, service=service)


def serve(
    wanted: Settings,
    *,
    service: type[RuntimeService] = RuntimeService,
    port: int | None = None,
    on_serving: Callable[[RuntimeManager], bool] | None = None,
) -> int:
    """Serves until a signal, or until the model turns out to be unable to; the exit status says which.

    `on_serving` is called once, in this thread, as soon as the model answers, and says whether to go on. `port` 0 takes a
    free one.
    """
    logs.configure(wanted.log_level, wanted.log_format)
    signals = _Signals()
    try:
        runtime = RuntimeManager(
            wanted.model_dir, wanted.app_port if port is None else port, service=service, settings=wanted
        )
        runtime.start()
    except errors.ModelRuntimeError as error:
        return report(error, wanted.termination_log)
    state = _loaded(runtime, signals)
    if state.error is not None and not signals.asked.is_set():
        signals.asked.wait(wanted.load_failure_seconds)
        runtime.stop()
        return report(state.error, wanted.termination_log)
    if state.phase is not Phase.SERVING or on_serving is None or on_serving(runtime):
        signals.asked.wait()
    runtime.stop(drain_delay=wanted.drain_delay_seconds if signals.number == signal.SIGTERM else 0.0)
    return OK


def report(error: errors.ModelRuntimeError, termination_log: Path) -> int:
    """Says in one line why the program ends, on stderr and to Kubernetes; returns the exit status."""
    reason = next((name for kind, name in REASONS.items() if isinstance(error, kind)), type(error).__name__)
    log.error(str(error), extra={"reason": reason})
    if termination_log.exists():
        try:
            termination_log.write_text(f"{reason}: {error}"[:4096])
        except OSError as failure:
            log.warning("no termination message", extra={"file": str(termination_log), "problem": failure.strerror})
    return next((status for kind, status in EXIT_STATUS.items() if isinstance(error, kind)), UNEXPECTED)


def _loaded(runtime: RuntimeManager, signals: _Signals) -> HostState:
    while True:
        state = runtime.wait_loaded(0.1)
        if state.phase is not Phase.LOADING or signals.asked.is_set():
            return state


class _Signals:
    """SIGTERM and SIGINT as an event. A second one ends the program at once."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.number = 0
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_signal)
            signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.asked.is_set():
            sys.exit(128 + number)
        self.number = number
        self.asked.set()
