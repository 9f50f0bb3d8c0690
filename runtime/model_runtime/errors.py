"""Every error the project raises on purpose, drawn as one tree. Knows no gRPC code, no exit status, no HTTP.

The boundaries translate: `server.codes` to gRPC statuses, `cli` to exit statuses; a test proves that each leaf has a place there.
Standard library only: the model process imports this.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence, Tuple

MAX_VIOLATIONS = 100  # of one error; a check may stop when it has found as many


class Violation(NamedTuple):
    """One broken promise: the path of the thing (`inputs.pixels`) and what was expected and what came."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class ModelRuntimeError(Exception):
    """The root. `str()` is one clear line (or one line per violation) that names the thing."""


class WithViolations(ModelRuntimeError):
    """An error that may carry several violations; its text is the summary followed by each of them."""

    def __init__(self, summary: str, violations: Sequence[Violation] = ()) -> None:
        self.summary = summary
        self.violations: Tuple[Violation, ...] = tuple(violations)
        if len(self.violations) >= MAX_VIOLATIONS:
            last = Violation("…", f"only the first {MAX_VIOLATIONS} are listed")
            self.violations = (*self.violations[:MAX_VIOLATIONS], last)
        super().__init__(
            "; ".join([summary, *map(str, self.violations)]) if summary else "; ".join(map(str, self.violations))
        )


class ContractError(WithViolations):
    """A contract that cannot be read or makes no sense, in bytes or in YAML notation."""


# A model that cannot serve ------------------------------------------------------------------------------------------


class ModelError(ModelRuntimeError):
    """The model directory holds no model that can be called."""


class ModelNotFound(ModelError):
    """The model directory, its contract.protobin or files/src/func_main.py is missing."""


class ModelImportFailed(ModelError):
    """func_main.py exists and could not be imported."""


class FunctionMissing(ModelError):
    """func_main.py has no callable of the signature's name."""


class WarmupFailed(ModelError):
    """The model loaded and could not answer the prediction made for it at start."""


class CrashLoop(ModelError):
    """The model's process ends before it serves, again and again."""


class LoadTimeout(CrashLoop):
    """The model takes longer to load than it may, again and again."""


# A prediction that cannot be answered -------------------------------------------------------------------------------


class PredictionError(WithViolations):
    """A prediction ended without an answer."""


class InvalidRequest(PredictionError):
    """The client's fault: bytes that are no request, or inputs that break the contract."""


class UnknownMethod(PredictionError):
    """No era has a method of that path."""


class UnknownService(PredictionError):
    """Health was asked for a service that is not served here."""


class NotServing(PredictionError):
    """The model is not loaded, or is stopping: try another replica, or later."""


class Overloaded(PredictionError):
    """Refused before any work began, because too much is waiting already."""


class DeadlineExceeded(PredictionError):
    """The client's deadline passed, or the model took longer than it may."""


class ModelFailure(PredictionError):
    """The model's fault: its function raised."""


class OutputMismatch(PredictionError):
    """The model's fault: what it returned breaks its own contract and cannot be converted without loss."""


class ModelCrashed(PredictionError):
    """The model's fault: its process ended while it was answering."""


class ModelTimeout(PredictionError):
    """The model's fault: it took longer than it may, and its process was ended."""


class Cancelled(PredictionError):
    """The caller has given up; nobody will hear of this."""


# A process that cannot start ----------------------------------------------------------------------------------------


class StartError(ModelRuntimeError):
    """The runtime cannot start as it was asked to."""


class InvalidSetting(StartError):
    """A setting (environment variable or option) that cannot be used, with what was expected and what came."""


class PortUnavailable(StartError):
    """The port is taken, or may not be bound."""


class RequirementsFailed(StartError):
    """The model's requirements cannot be installed."""


class SourceError(StartError):
    """A ModelRuntime file that cannot be read, or from which no model directory can be built."""


# A model's files that do not arrive ---------------------------------------------------------------------------------


class FetchError(StartError):
    """A model's files cannot be brought here."""


class DownloadFailed(FetchError):
    """The other side cannot be reached, breaks off, or answers with an error."""


class SourceNotFound(FetchError):
    """There is nothing at that address, or nobody may see it."""


class SourceEmpty(FetchError):
    """The source exists and holds no files."""


class ChecksumMismatch(FetchError):
    """What arrived is not what was meant."""


class ContractMissing(FetchError):
    """The source should hold contract.protobin and does not."""


class ContractInvalid(FetchError):
    """The source's contract.protobin cannot be read."""


class ContractMismatch(FetchError):
    """The source's contract.protobin promises something else than is expected."""
