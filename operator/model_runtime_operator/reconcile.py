"""The main path: what a ModelRuntime says becomes objects, and what the cluster shows becomes its status.

The same whatever woke us. It may be run at any time, any number of times, and be cut off anywhere.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping
from typing import Any

from . import defaults, desired, spec, status
from .cluster import Cluster, ClusterError, Foreign, Refused
from .cluster.comparison import has_same_pods
from .desired import Files, Platform
from .spec import ModelRuntime
from .status import Outcome
from .vocabulary import Hindered

log = logging.getLogger(__name__)

Key = tuple[str, str]


async def reconcile(key: Key, cluster: Cluster, platform: Platform) -> float | None:
    """Brings the ModelRuntime's objects to what it says, and its status to what is true.

    Returns in how many seconds to look again, where time alone may change what is true.

    Raises ClusterError to be run again: Refused too, once the status tells of it, for nothing wakes us when a quota, a policy or
    somebody else's object no longer stands in the way.
    """
    body = cluster.model_runtime(key)
    if body is None or "deletionTimestamp" in body["metadata"]:
        return None  # its objects go by their owner references
    await cluster.stand_back(body, now=_now())
    chosen = await _defaults(body, cluster, platform)
    outcome, refusal = await _bring_about(body, chosen, cluster, platform)
    observed, now = cluster.observe(key), _now()
    new = status.of(body, outcome, observed, now=now, domain=platform.cluster_domain)
    if (told := defaults.status(body["spec"], chosen, platform.defaults)) is not None:
        new["defaults"] = told
    if new != body.get("status"):
        await _publish(body, new, cluster)
    if refusal is not None:
        raise refusal
    return status.look_again(observed, now)


async def _bring_about(
    body: dict[str, Any], chosen: Mapping[str, Any], cluster: Cluster, platform: Platform
) -> tuple[Outcome, ClusterError | None]:
    runtime = None
    try:
        runtime = spec.parse({**body, "spec": defaults.merged(body["spec"], chosen)})
        files = await _files(runtime, cluster)
        wanted = desired.objects(runtime, platform, files)
        if files is not None and not _has_copies(wanted, cluster):
            files = await _files(runtime, cluster, whole=True)
            wanted = desired.objects(runtime, platform, files)
        for each in wanted:
            if each["kind"] == "Deployment":
                each["metadata"].setdefault("annotations", {}).update(defaults.record(chosen))
            await _apply(each, cluster)
        await cluster.prune((runtime.namespace, runtime.name), wanted)
    except Hindered as error:
        cause = error.__cause__
        hindered = Outcome(runtime, runtime.promise if runtime else None, error.problem)
        return hindered, cause if isinstance(cause, ClusterError) else None
    promise, digest = desired.contract_of(runtime, files), desired.model_digest(runtime, files)
    return Outcome(runtime, promise, model_digest=digest), None


async def _defaults(body: dict[str, Any], cluster: Cluster, platform: Platform) -> Mapping[str, Any]:
    """The recorded defaults while they lead to the pods that are rolled out, else the current: they never start a rollout."""
    deployment = cluster.observe((body["metadata"]["namespace"], body["metadata"]["name"])).deployment
    recorded = defaults.recorded(deployment)
    if deployment is None or recorded is None or recorded == platform.defaults:
        return platform.defaults
    try:
        runtime = spec.parse({**body, "spec": defaults.merged(body["spec"], recorded)})
        wanted = desired.objects(runtime, platform, await _files(runtime, cluster))
    except Hindered:
        return recorded
    [changed] = [each for each in wanted if each["kind"] == "Deployment"]
    return recorded if has_same_pods(deployment, changed) else platform.defaults


def _has_copies(wanted: list[dict[str, Any]], cluster: Cluster) -> bool:
    """Whether the pods' copy of a source ConfigMap exists, so that nobody needs its bytes again."""
    return all(cluster.is_applied(each) for each in wanted if each["kind"] == "ConfigMap")


async def _files(runtime: ModelRuntime, cluster: Cluster, *, whole: bool = False) -> Files | None:
    if not isinstance(runtime.source, spec.ConfigMap):
        return None
    files = await cluster.files((runtime.namespace, runtime.source.name), whole=whole)
    if files is None:
        raise Hindered("SourceNotFound", f"ConfigMap {runtime.source.name}: not found in namespace {runtime.namespace}")
    return files


async def _apply(wanted: dict[str, Any], cluster: Cluster) -> None:
    """What the API server refuses is a fact about the ModelRuntime, in a word of the catalogue."""
    try:
        await cluster.apply(wanted)
    except Refused as refusal:
        word = status.refused(refusal.status, refusal.message)
        raise Hindered(word, f"{wanted['kind']} {wanted['metadata']['name']}: {refusal.message}") from refusal
    except Foreign as foreign:
        raise Hindered("NameConflict", str(foreign)) from foreign


async def _publish(body: dict[str, Any], new: dict[str, Any], cluster: Cluster) -> None:
    old = body.get("status") or {}
    await cluster.write_status(body, new)
    for number, transition in enumerate(status.transitions(old, new)):
        log.info(transition.message, extra={"modelruntime": body["metadata"]["name"], "reason": transition.reason})
        await cluster.tell(body, transition, now=_now(), number=number)


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
