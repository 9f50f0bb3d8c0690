"""What keeps a model's files from arriving, each with its word of the failure catalogue."""

from __future__ import annotations

from ..errors import StartError


class FetchError(StartError):
    """The root. `reason` is what the operator reads from the termination message."""

    reason = "DownloadFailed"


class DownloadFailed(FetchError):
    """The other side cannot be reached, breaks off, or answers with an error."""


class SourceNotFound(FetchError):
    """There is nothing at that address, or nobody may see it."""

    reason = "SourceNotFound"


class SourceEmpty(FetchError):
    """The source exists and holds no files."""

    reason = "SourceEmpty"


class ChecksumMismatch(FetchError):
    """What arrived is not what was meant."""

    reason = "ChecksumMismatch"


class ContractMissing(FetchError):
    """The source should hold contract.protobin and does not."""

    reason = "ContractMissing"


class ContractInvalid(FetchError):
    """The source's contract.protobin cannot be read."""

    reason = "ContractInvalid"


class ContractMismatch(FetchError):
    """The source's contract.protobin promises something else than is expected."""

    reason = "ContractMismatch"
