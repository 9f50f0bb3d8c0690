"""The image's program: serves what the environment says, stops on SIGTERM and SIGINT, ends with a telling exit status."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from .. import errors, init, memory, settings
from ..masking import masked
from ..model.service import RuntimeService
from ..settings import Settings
from ..supervisor.host import Phase
from . import logs
from .manager import RuntimeManager

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1  # how late the program may notice that its model has failed for good

OK = 0
UNEXPECTED = 1
EXIT_STATUS: dict[type[errors.ModelRuntimeError], int] = {
    errors.InvalidSetting: 2,
    errors.ModelNotFound: 3,
    errors.ContractError: 3,
    errors.SourceError: 3,
    errors.RequirementsFailed: 6,
    errors.FetchError: 8,
    errors.ModelImportFailed: 4,
    errors.FunctionMissing: 4,
    errors.WarmupFailed: 4,
    errors.CrashLoop: 7,
    errors.ModelError: 4,
    errors.PortUnavailable: 5,
}
EXIT_MEANINGS = {
    0: "stopped as asked",
    1: "a prediction or check that failed, a runtime that cannot be reached, or an error that should not happen",
    2: "a setting or option that cannot be used",
    3: "no model directory, contract or ModelRuntime file that can be read",
    4: "the model cannot be loaded: import, function or warm-up",
    5: "the port cannot be bound",
    6: "the model's requirements cannot be installed",
    7: "the model's process ends before it serves, again and again",
    8: "the model's files cannot be fetched, or are not what was promised",
    9: "a package is not installed: pip install 'model-runtime[runtime]' (or [operator])",
    130: "interrupted: Ctrl-C before the model served; 143 is SIGTERM",
    141: "the reader of the output closed it",
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
    errors.LoadTimeout: "ModelTimeout",
    errors.CrashLoop: "ModelCrashed",
    errors.ModelError: "ModelImportFailed",
    errors.PortUnavailable: "PortInUse",
    errors.RequirementsFailed: "RequirementsFailed",
    errors.SourceNotFound: "SourceNotFound",
    errors.SourceEmpty: "SourceEmpty",
    errors.ChecksumMismatch: "ChecksumMismatch",
    errors.ContractMissing: "ContractMissing",
    errors.ContractInvalid: "ContractInvalid",
    errors.ContractMismatch: "ContractMismatch",
    errors.DownloadFailed: "DownloadFailed",
}


def main(service: type[RuntimeService] = RuntimeService, **given: Any) -> int:
    """`python -m model_runtime`, and `serve(MyRuntime)` of a custom runtime: settings from the environment, exit status back.

    `given` settings are used instead of the environment's.
    """
    init.run()  # for a custom runtime's program; in ours it is done
    try:
        wanted = settings.from_environment(**given)
    except errors.InvalidSetting as error:
        logs.configure("info", "text")
        return report(error, settings.termination_log())
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
    logs.capture_everything()
    memory.keep_large_buffers()
    if wanted.isolation == "process" and not memory.hide():
        log.warning("the model can read the server's memory: this system cannot hide it")
    signals = _Signals()
    try:
        runtime = RuntimeManager(
            wanted.model_dir, wanted.app_port if port is None else port, service=service, settings=wanted
        )
        runtime.start()
    except errors.ModelRuntimeError as error:
        return report(error, wanted.termination_log)
    go_on, has_served = True, False
    while go_on and not signals.asked.wait(POLL_SECONDS):
        has_served = has_served or runtime.state.phase is Phase.SERVING
        if runtime.state.error is not None:
            signals.asked.wait(wanted.load_failure_seconds)
            break
        if on_serving is not None and runtime.state.phase is Phase.SERVING:
            go_on, on_serving = on_serving(runtime), None
    failure = runtime.state.error
    has_served = has_served or runtime.state.phase is Phase.SERVING
    if signals.number == signal.SIGTERM and failure is None and has_served:  # else nobody was ever sent here
        runtime.stop(drain_delay=wanted.drain_delay_seconds, drain_limit=wanted.drain_limit_seconds)
    else:
        runtime.stop()
    return OK if failure is None else report(failure, wanted.termination_log)


def report(error: errors.ModelRuntimeError, termination_log: Path) -> int:
    """Says in one line why the program ends, on stderr and to Kubernetes; returns the exit status."""
    reason = next((name for kind, name in REASONS.items() if isinstance(error, kind)), type(error).__name__)
    text = masked(str(error))
    log.error(text, extra={"reason": reason})
    if termination_log.exists():
        try:
            termination_log.write_text(f"{reason}: {text}"[:4096])
        except OSError as failure:
            log.warning("no termination message", extra={"file": str(termination_log), "problem": failure.strerror})
    return next((status for kind, status in EXIT_STATUS.items() if isinstance(error, kind)), UNEXPECTED)


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
