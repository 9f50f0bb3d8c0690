"""What a rollout waits for while nothing is wrong, in words. Pure."""

from __future__ import annotations

from ..spec import ModelRuntime
from . import failures
from .observed import Object, Observed, Rollout, condition, is_ready, seconds

BLIND_SECONDS = 120.0  # an autoscaler without metrics for less is only new


def paused(runtime: ModelRuntime, observed: Observed) -> str:
    """Who has paused the rollout; empty where nobody has."""
    if runtime.paused:
        return "rollouts are paused (paused: true)"
    deployment = observed.deployment
    if deployment is None or not deployment["spec"].get("paused"):
        return ""
    name = deployment["metadata"]["name"]
    return f"Deployment {name} is paused, and not by its ModelRuntime: kubectl rollout resume deployment/{name}"


def what(runtime: ModelRuntime, observed: Observed, numbers: Rollout) -> str:
    """What is not so yet, in numbers that change as it comes about."""
    if observed.deployment is None or not numbers.is_observed or not observed.living_pods:
        return f"0 of {numbers.wanted or 1} pods of the latest revision are ready"
    if runtime.autoscaling is not None and numbers.wanted < runtime.wanted_replicas:
        return f"the autoscaler has not asked for its minReplicas yet: {numbers.wanted} of {runtime.wanted_replicas}"
    if numbers.available < numbers.wanted or numbers.updated < numbers.wanted:
        new = sum(is_ready(pod) for pod in observed.living_pods)
        probe = failures.starting(observed)
        return f"{new} of {numbers.wanted} pods of the latest revision are ready" + (f"; {probe}" if probe else "")
    return _what_is_left(observed.deployment["metadata"]["name"], numbers)


def _what_is_left(name: str, numbers: Rollout) -> str:
    if numbers.replicas > numbers.updated:
        return f"{_pods(numbers.replicas - numbers.updated, 'of an older revision', 'of older revisions')} still ending"
    if numbers.replicas > numbers.wanted:
        return f"{_pods(numbers.replicas - numbers.wanted, 'more than is wanted', 'more than are wanted')} still ending"
    return f"Service {name} has no ready endpoint yet"


def _pods(count: int, one: str, several: str) -> str:
    return f"1 pod {one} is" if count == 1 else f"{count} pods {several} are"


def detail(observed: Observed) -> str:
    """Where the first pod that is not ready stands."""
    pod = next((each for each in observed.living_pods if not is_ready(each)), None)
    if pod is None:
        return "no pod of the latest revision has been created" if not observed.living_pods else "its pods are ready"
    return f"pod {pod['metadata']['name']}: {_stage(pod)}"


def _stage(pod: Object) -> str:
    if condition(pod, "PodScheduled").get("status") != "True":
        return "no node has been chosen yet"
    status = pod.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    for each in containers:
        state = each.get("state") or {}
        if waiting := state.get("waiting"):
            return f"container {each['name']} waits: {waiting.get('reason', '?')}"
        if state.get("running") and not each.get("ready"):
            return f"container {each['name']} {_running(each)}"
    return f"node {pod['spec'].get('nodeName', '?')} has not started a container yet"


def _running(container: Object) -> str:
    started = container.get("started")
    return (
        "runs"
        if started is None
        else "runs, and its model is not ready"
        if started
        else "runs, and does not answer yet"
    )


def blind(observed: Observed, now: float) -> str:
    """What keeps the autoscaler from scaling, once it has for a while; empty where nothing does."""
    active = condition(observed.autoscaler, "ScalingActive")
    if active.get("status") != "False" or active.get("reason") == "ScalingDisabled":
        return ""
    if now - seconds(active.get("lastTransitionTime")) < BLIND_SECONDS:
        return ""
    return f"its HorizontalPodAutoscaler does not scale: {active.get('reason')}: {active.get('message')}"


def look_again(observed: Observed, now: str) -> float | None:
    """In how many seconds the same observations may mean something else; None: only when one of them changes."""
    active = condition(observed.autoscaler, "ScalingActive")
    left = seconds(active.get("lastTransitionTime")) + BLIND_SECONDS - seconds(now)
    return left + 1 if active.get("status") == "False" and left > 0 else None
