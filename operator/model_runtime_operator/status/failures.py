"""What keeps pods from serving, read from what the cluster says of them, in a word of the catalogue and the real text. Pure.

Pods that live are judged first. One that has gone speaks only while its successor has not begun. What a container said at its end
counts before what the node's probes say of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..vocabulary import REASONS, Problem, problem
from .observed import Object, Observed, condition, event_time, is_departed, is_ready, seconds
from .texts import last_words, meaning, refused

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

_KILLED = (0, 137, 143)  # exit codes of a container that the node has ended: it stopped as asked, or by a signal
_STARTS_SECONDS = 3.0  # for so long a failing startup probe says nothing
_ANSWERS_SECONDS = 10.0  # a runtime that does not answer for so long has a problem
_SLACK_SECONDS = 5.0  # between what the kubelet sees and what it writes
_FAILING_SECONDS = 60.0  # a probe that failed within so long is failing
_GONE_SECONDS = 3600.0  # what happened to a pod longer ago explains nothing

# What the end of an init step means that does not say it in a word of ours.
_STEPS = {"fetch": "DownloadFailed", "copy": "SourceNotFound", "requirements": "RequirementsFailed"}


def find(observed: Observed, now: float) -> Problem | None:
    """The first thing that keeps the latest revision from serving; None while all is well or simply not there yet."""
    return next(_all(observed, now), None)


def starting(observed: Observed) -> str:
    """What the node's startup probe says of a container that has not answered yet; empty while there is nothing to say."""
    return next(_startup_failures(observed), "")


def _startup_failures(observed: Observed) -> Iterator[str]:
    for pod in observed.living_pods:
        for container in (pod.get("status") or {}).get("containerStatuses") or ():
            since = _running_since(container)
            failed = _probes(container, pod, observed, since) if since and not container.get("started") else []
            if failed and seconds(event_time(failed[-1])) - since >= _STARTS_SECONDS:
                yield f"pod {pod['metadata']['name']}: {failed[-1]['message']}"


def _all(observed: Observed, now: float) -> Iterator[Problem]:
    yield from _refused_pods(observed)
    for pod in observed.living_pods:
        if not is_ready(pod):
            yield from _of_pod(pod, observed, now)
    for pod in reversed(observed.current_pods):
        if is_departed(pod) and not _is_succeeded(pod, observed) and now - _last_change(pod) < _GONE_SECONDS:
            yield from _of_departure(pod)


def _refused_pods(observed: Observed) -> Iterator[Problem]:
    failed = condition(observed.deployment, "ReplicaFailure")
    if failed.get("status") == "True" and observed.deployment is not None:
        text = str(failed.get("message", ""))
        yield problem(refused(403, text), f"Deployment {observed.deployment['metadata']['name']}: {text}")


# Pods that have gone --------------------------------------------------------------------------------------------------


def _is_succeeded(pod: Object, observed: Observed) -> bool:
    """Whether a pod that was created later has begun: then this one's end explains nothing any more."""
    created = pod["metadata"].get("creationTimestamp", "")
    later = (each for each in observed.living_pods if each["metadata"].get("creationTimestamp", "") >= created)
    return any(is_ready(each) or any(_has_begun(one) for one in _containers(each)) for each in later)


def _has_begun(container: Object) -> bool:
    return bool(container.get("started") or container.get("lastState"))


def _last_change(pod: Object) -> float:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    times = [each.get("lastTransitionTime") for each in conditions]
    return max(seconds(each) for each in (pod["metadata"].get("creationTimestamp"), *times))


def _of_departure(pod: Object) -> Iterator[Problem]:
    status, where = pod.get("status") or {}, f"pod {pod['metadata']['name']}"
    disruption = condition(pod, "DisruptionTarget")
    why = status.get("reason") or disruption.get("reason")
    text = status.get("message") or disruption.get("message") or ""
    if why in ("NodeLost", "DeletionByTaintManager", "DeletionByPodGC"):
        yield problem("NodeLost", f"{where} on node {_node(pod)}: {text or 'the node does not answer'}")
    elif why in ("Evicted", "TerminationByKubelet", "PreemptionByScheduler", "Preempting"):
        yield problem("Evicted", f"{where}: {text or why}")
    elif status.get("phase") == "Failed" and why:  # refused by the kubelet: OutOfcpu, NodeAffinity, …
        yield problem("Unschedulable", f"{where}: {why}: {text}")


# Pods that live -------------------------------------------------------------------------------------------------------


def _of_pod(pod: Object, observed: Observed, now: float) -> Iterator[Problem]:
    where = f"pod {pod['metadata']['name']}"
    if _is_node_silent(pod):
        yield problem("NodeLost", f"{where} on node {_node(pod)}: the node does not answer")
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        text = str(scheduled.get("message", ""))
        yield problem(meaning(text, "Unschedulable"), f"{where}: {text}")
    containers = _containers(pod)
    for container in containers:
        yield from _of_container(container, pod, observed, f"{where}: container {container['name']}", now)
    for event in observed.events_of(pod, *_MOUNT_EVENTS)[-1:]:
        if not any((each.get("state") or {}).get("running") for each in containers):
            text = str(event.get("message", ""))
            yield problem(meaning(text, "VolumeMountFailed"), f"{where}: {text}")


def _is_node_silent(pod: Object) -> bool:
    """Whether it is the node controller that calls the pod unready: the kubelet would have said so of its containers too."""
    if pod["spec"].get("readinessGates"):
        return False
    return [condition(pod, kind).get("status") for kind in ("Ready", "ContainersReady")] == ["False", "True"]


def _node(pod: Object) -> str:
    return str(pod["spec"].get("nodeName", "?"))


def _containers(pod: Object) -> list[Object]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _of_container(container: Object, pod: Object, observed: Observed, where: str, now: float) -> Iterator[Problem]:
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    text = str(waiting.get("message", ""))
    if waiting.get("reason") in _PULL:
        yield problem("ImagePullFailed", f"{where}: {_pull_text(container, text)}")
    elif waiting.get("reason") in _START:
        yield problem(meaning(text, "StartFailed"), f"{where}: {text or waiting['reason']}")
    elif not container.get("ready"):
        ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
        if ended and not _was_ready_since(container, pod):
            yield from _of_end(ended, container, pod, observed, where)
        yield from _of_probes(container, pod, observed, where, now)


def _pull_text(container: Object, text: str) -> str:
    stripped = _BACK_OFF.sub("", text)
    return stripped or f"image {container.get('image', '?')} cannot be pulled"


def _running_since(container: Object) -> float:
    return seconds(((container.get("state") or {}).get("running") or {}).get("startedAt"))


def _was_ready_since(container: Object, pod: Object) -> bool:
    """Whether the pod was ready in this life of its container: then its last end explains nothing any more."""
    since = _running_since(container)
    return bool(since) and seconds(condition(pod, "Ready").get("lastTransitionTime")) > since + _SLACK_SECONDS


# How a container ended ------------------------------------------------------------------------------------------------


def _of_end(ended: Object, container: Object, pod: Object, observed: Observed, where: str) -> Iterator[Problem]:
    message, code = str(ended.get("message") or "").strip(), ended.get("exitCode")
    said = _said_by_runtime(message) if code else None
    probes = _probes(container, pod, observed, seconds(ended.get("startedAt")), "Liveness", "Startup")
    if ended.get("reason") == "OOMKilled":  # the runtime outlives its model process, and can only guess why that died
        text = f": {said['text']}" if said else ""
        yield problem("OutOfMemory", f"{where}: ended for using more memory than it may (OOMKilled){text}")
    elif said:
        yield problem(said["word"], f"{where}: {said['text']}")
    elif probes and code in _KILLED:
        yield problem("ProbeFailed", f"{where}: {probes[-1]['message']}")
    elif code or _is_looping(container):
        tail = last_words(message) or ended.get("reason") or "no message"
        otherwise = _STEPS.get(container["name"], "CrashLoop")
        yield problem(otherwise, f"{where}: ended with exit code {code}: {tail}")


def _is_looping(container: Object) -> bool:
    return ((container.get("state") or {}).get("waiting") or {}).get("reason") == "CrashLoopBackOff"


def _said_by_runtime(message: str) -> re.Match[str] | None:
    """`Reason: text`, as the runtime leaves it in its termination log."""
    for found in _RUNTIME_WORD.finditer(message):
        if (reason := REASONS.get(found["word"])) and reason.from_runtime:
            return found
    return None


# What the node's probes say -------------------------------------------------------------------------------------------


def _probes(container: Object, pod: Object, observed: Observed, since: float, *kinds: str) -> list[Object]:
    """Failures of that container's probes since then, the latest last. Their events have whole seconds."""

    def is_meant(event: Object) -> bool:
        field = str((event.get("involvedObject") or {}).get("fieldPath") or "")
        is_its = not field or field.endswith(f"{{{container['name']}}}")
        begins = str(event.get("message", "")).startswith(kinds or ("Startup",))
        return is_its and begins and seconds(event_time(event)) >= since - 1

    return [each for each in observed.events_of(pod, "Unhealthy") if is_meant(each)]


def _of_probes(container: Object, pod: Object, observed: Observed, where: str, now: float) -> Iterator[Problem]:
    """A container that runs and does not answer. One that is still loading its model answers."""
    since = _running_since(container)
    if not since:
        return
    if not container.get("started"):
        failed = _probes(container, pod, observed, since)
        late = [each for each in failed if seconds(event_time(each)) - since >= _ANSWERS_SECONDS]
    elif _was_ready_since(container, pod):
        turned = seconds(condition(pod, "Ready").get("lastTransitionTime"))
        late = _probes(container, pod, observed, turned - _FAILING_SECONDS, "Liveness", "Readiness")
    else:
        late = _probes(container, pod, observed, max(since, now - _FAILING_SECONDS), "Liveness")
    if late:
        yield problem("ProbeFailed", f"{where}: {late[-1]['message']}")
