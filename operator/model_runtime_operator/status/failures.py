"""What keeps pods from serving, read from what the cluster says of them, in a word of the catalogue and the real text. Pure.

The texts are stripped of what changes all the time (back-off times, counts), so that a status that says the same is the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..vocabulary import REASONS, Problem, problem
from .observed import Object, Observed, condition

_PULL = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
}
_START = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError", "PostStartHookError"}
_MOUNT_EVENTS = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
_BACK_OFF = re.compile(r'^Back-off pulling image "(?P<image>[^"]*)"(: ErrImagePull: )?')
_RUNTIME_WORD = re.compile(r"^(?P<word>[A-Z][A-Za-z]+): (?P<text>.*)$", re.MULTILINE)

# What a text of the kubelet or the scheduler means; the first pattern that is found decides.
_MEANINGS = (
    (re.compile(r'secret "[^"]*" not found|in Secret |secret .*not found', re.IGNORECASE), "SecretMissing"),
    (re.compile(r'configmap "[^"]*" not found|non-existent config key|in ConfigMap ', re.IGNORECASE), "SourceNotFound"),
    (re.compile(r'persistentvolumeclaim "[^"]*" not found', re.IGNORECASE), "SourceNotFound"),
    (re.compile(r"subPath", re.IGNORECASE), "SourceNotFound"),
    (re.compile(r"unbound immediate PersistentVolumeClaims|volume binding|not bound", re.IGNORECASE), "VolumePending"),
    (
        # the last is what a containerd says that does not know them
        re.compile(
            r'image volume|volume source type.*image|image_volume|imagevolume|failed to mkdir ""', re.IGNORECASE
        ),
        "ImageVolumeUnsupported",
    ),
)

# What the end of an init step means that does not say it in a word of ours.
_STEPS = {"fetch": "DownloadFailed", "copy": "SourceNotFound", "requirements": "RequirementsFailed"}


def find(observed: Observed) -> Problem | None:
    """The first thing that keeps the latest revision from serving; None while all is well or simply not there yet."""
    for failure in _all(observed):
        return failure
    return None


def _all(observed: Observed) -> Iterator[Problem]:
    yield from _refused_pods(observed)
    for pod in observed.current_pods:
        if condition(pod, "Ready").get("status") != "True":
            yield from _of_pod(pod, observed)


def refused(code: int, message: str) -> str:
    """The word for the HTTP status and text with which the API server refuses an object."""
    if re.search(r"exceeded quota|status unknown for quota|is forbidden: (maximum|minimum)", message):
        return "QuotaExceeded"
    if "must specify a volume type" in message:  # it drops volumes of images where it does not know them
        return "ImageVolumeUnsupported"
    if code == 409:
        return "NameConflict"
    return "AdmissionDenied" if code == 403 or re.search("denied (the )?request", message) else "ObjectRefused"


def _refused_pods(observed: Observed) -> Iterator[Problem]:
    failed = condition(observed.deployment, "ReplicaFailure")
    if failed.get("status") == "True" and observed.deployment is not None:
        text = str(failed.get("message", ""))
        yield problem(refused(403, text), f"Deployment {observed.deployment['metadata']['name']}: {text}")


def _of_pod(pod: Object, observed: Observed) -> Iterator[Problem]:
    where = f"pod {pod['metadata']['name']}"
    yield from _lost(pod, observed, where)
    yield from _unscheduled(pod, where)
    status = pod.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    for container in containers:
        yield from _of_container(container, pod, observed, f"{where}: container {container['name']}")
    for event in observed.events_of(pod, *_MOUNT_EVENTS)[-1:]:
        if not any((each.get("state") or {}).get("running") for each in containers):
            text = str(event.get("message", ""))
            yield problem(_meaning(text, "VolumeMountFailed"), f"{where}: {text}")


def _lost(pod: Object, observed: Observed, where: str) -> Iterator[Problem]:
    status = pod.get("status") or {}
    disruption = condition(pod, "DisruptionTarget")
    why = status.get("reason") or disruption.get("reason")
    text = status.get("message") or disruption.get("message") or "the node does not answer"
    if why in ("NodeLost", "DeletionByTaintManager") or observed.events_of(pod, "NodeNotReady"):
        yield problem("NodeLost", f"{where} on node {pod['spec'].get('nodeName', '?')}: {text}")
    elif why in ("Evicted", "TerminationByKubelet", "PreemptionByScheduler", "Preempting"):
        yield problem("Evicted", f"{where}: {text}")
    elif (
        status.get("phase") == "Failed" and why
    ):  # refused by the kubelet: OutOfcpu, NodeAffinity, UnexpectedAdmissionError, …
        yield problem("Unschedulable", f"{where}: {why}: {text}")


def _unscheduled(pod: Object, where: str) -> Iterator[Problem]:
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        text = str(scheduled.get("message", ""))
        yield problem(_meaning(text, "Unschedulable"), f"{where}: {text}")


def _of_container(container: Object, pod: Object, observed: Observed, where: str) -> Iterator[Problem]:
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    text = str(waiting.get("message", ""))
    if waiting.get("reason") in _PULL:
        yield problem("ImagePullFailed", f"{where}: {_pull_text(container, text)}")
    elif waiting.get("reason") in _START:
        yield problem(_meaning(text, "StartFailed"), f"{where}: {text or waiting['reason']}")
    elif not container.get("ready"):
        ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
        if ended and ended.get("exitCode") != 0:
            yield _of_end(ended, pod, observed, where, otherwise=_STEPS.get(container["name"], "CrashLoop"))


def _pull_text(container: Object, text: str) -> str:
    stripped = _BACK_OFF.sub("", text)
    return stripped or f"image {container.get('image', '?')} cannot be pulled"


def _of_end(ended: Object, pod: Object, observed: Observed, where: str, *, otherwise: str) -> Problem:
    message = str(ended.get("message") or "").strip()
    said = _said_by_runtime(message)
    if (
        ended.get("reason") == "OOMKilled"
    ):  # first: the runtime outlives its model process, and can only guess why that died
        text = f": {said['text']}" if said else ""
        return problem("OutOfMemory", f"{where}: ended for using more memory than it may (OOMKilled){text}")
    if said:
        return problem(said["word"], f"{where}: {said['text']}")
    probes = [each for each in observed.events_of(pod, "Unhealthy") if _is_fatal_probe(str(each.get("message", "")))]
    if probes:
        return problem("ProbeFailed", f"{where}: {probes[-1]['message']}")
    tail = message[-1000:] or ended.get("reason") or "no message"
    return problem(otherwise, f"{where}: ended with exit code {ended.get('exitCode')}: {tail}")


def _said_by_runtime(message: str) -> re.Match[str] | None:
    """`Reason: text`, as the runtime leaves it in its termination log."""
    for found in _RUNTIME_WORD.finditer(message):
        if (reason := REASONS.get(found["word"])) and reason.from_runtime:
            return found
    return None


def _is_fatal_probe(text: str) -> bool:
    return text.startswith(("Liveness", "Startup"))


def _meaning(text: str, otherwise: str) -> str:
    return next((word for pattern, word in _MEANINGS if pattern.search(text)), otherwise)
