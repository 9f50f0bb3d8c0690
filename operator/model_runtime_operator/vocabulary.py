"""Every word that a status may say: condition types and the failure catalogue. The CRD's users, docs and tests read it here.

A reason that stalls will not go away without a person: it makes `Stalled` true at once. The others may heal by themselves and
stall only when the rollout's progress deadline has passed.
"""

from __future__ import annotations

from dataclasses import dataclass

READY = "Ready"
AVAILABLE = "Available"
RECONCILING = "Reconciling"
STALLED = "Stalled"
CONTRACT_ACCEPTED = "ContractAccepted"
CONDITIONS = (READY, AVAILABLE, RECONCILING, STALLED, CONTRACT_ACCEPTED)


@dataclass(frozen=True)
class Reason:
    """One word of the catalogue."""

    word: str
    meaning: str
    stalls: bool = False
    from_runtime: bool = False  # the runtime's own program says it, in its termination message

    def __str__(self) -> str:
        return self.word


def _stalls(word: str, meaning: str) -> Reason:
    return Reason(word, meaning, stalls=True)


def _runtime(word: str, meaning: str, *, stalls: bool = True) -> Reason:
    return Reason(word, meaning, stalls=stalls, from_runtime=True)


CATALOGUE: tuple[Reason, ...] = (
    # what the ModelRuntime says
    _stalls("InvalidSpec", "The spec says something that the schema allows and that makes no sense."),
    _runtime("ContractInvalid", "The contract does not compile, or contract.protobin cannot be read."),
    _runtime("ContractMissing", "The source should hold contract.protobin and does not."),
    _runtime("ContractMismatch", "The source's contract.protobin promises something else than the ModelRuntime."),
    # where the model's files come from
    _runtime("SourceNotFound", "The ConfigMap, the volume claim, the folder or the address does not exist."),
    _runtime("SourceEmpty", "The source exists and holds no src/func_main.py."),
    Reason("VolumePending", "The volume claim is not bound yet."),
    Reason("VolumeMountFailed", "The node cannot mount a volume."),
    Reason("ImagePullFailed", "An image cannot be pulled."),
    _stalls("ImageVolumeUnsupported", "The cluster or the node cannot mount OCI images; `mode: Copy` can help."),
    _runtime("DownloadFailed", "The model's files cannot be fetched.", stalls=False),
    _runtime("ChecksumMismatch", "What was fetched is not what the sha256 says."),
    _runtime("RequirementsFailed", "The model's requirements cannot be installed.", stalls=False),
    _stalls("SecretMissing", "A Secret that the pods refer to does not exist, or lacks a key."),
    # the model
    _runtime("ModelImportFailed", "func_main.py cannot be imported."),
    _runtime("FunctionMissing", "func_main.py has no function of the signature's name."),
    _runtime("WarmupFailed", "The model loaded and could not answer its warm-up prediction."),
    _runtime("ModelTimeout", "The model took longer than it may.", stalls=False),
    _runtime("ModelCrashed", "The model's process ends before it serves, again and again.", stalls=False),
    _runtime("PortInUse", "The runtime cannot bind its port."),
    _runtime("InvalidSetting", "The runtime was given a setting that cannot be used."),
    # the pods
    Reason("StartFailed", "The node cannot create or start a container."),
    Reason("CrashLoop", "A container ends again and again, and does not say why in words of ours."),
    Reason("OutOfMemory", "A container was ended because it used more memory than it may."),
    Reason("ProbeFailed", "The runtime does not answer the node's probes."),
    Reason("Unschedulable", "No node can take the pods."),
    Reason("Evicted", "The node threw a pod out."),
    Reason("NodeLost", "The node that a pod is on does not answer."),
    # the cluster's answers
    Reason("QuotaExceeded", "A quota or a limit of the namespace leaves no room."),
    _stalls(
        "AdmissionDenied", "A policy of the cluster refuses an object: Pod Security, an admission policy, a webhook."
    ),
    _stalls("NameConflict", "An object that is needed exists, and is somebody else's."),
    _stalls("ObjectRefused", "The API server finds an object invalid."),
    _stalls("ProgressDeadlineExceeded", "The rollout has got nowhere for progressDeadlineSeconds."),
    # nothing is wrong
    Reason("Paused", "Rollouts are frozen, and the latest generation is not rolled out."),
    Reason("ScaledToZero", "No pods are wanted, so nothing serves."),
    Reason("Deploying", "The latest generation is being rolled out."),
    Reason("Available", "Predictions can be served."),
    Reason("ScalingInactive", "Predictions can be served, and the autoscaler has no metrics by which to scale."),
    Reason("NotAvailable", "Nothing serves."),
    Reason("RolledOut", "Nothing is moving: the latest generation is rolled out."),
    Reason("NotStalled", "Nothing stands in the way."),
    Reason("Accepted", "The contract compiles."),
    Reason("Unknown", "Nobody can know yet: the source is read by the pods only."),
)
CALM = frozenset(
    (
        "Paused",
        "ScaledToZero",
        "Deploying",
        "Available",
        "NotAvailable",
        "RolledOut",
        "NotStalled",
        "Accepted",
        "Unknown",
    )
)  # nothing is wrong: what these say in numbers is news
REASONS: dict[str, Reason] = {reason.word: reason for reason in CATALOGUE}


@dataclass(frozen=True)
class Problem:
    """Something that stands in the way: a word of the catalogue, and the real text with the name of the object."""

    reason: Reason
    message: str


def problem(word: str, message: str) -> Problem:
    return Problem(REASONS[word], message)


class Hindered(Exception):
    """Something stands in the way of what a ModelRuntime wants; `problem` is what its conditions will say."""

    def __init__(self, word: str, message: str) -> None:
        super().__init__(message)
        self.problem = problem(word, message)


def table() -> list[tuple[str, bool, str]]:
    """Reason, whether it stalls, and meaning: for the docs."""
    return [(reason.word, reason.stalls, reason.meaning) for reason in CATALOGUE]
