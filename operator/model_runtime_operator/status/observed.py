"""What was seen of a ModelRuntime's objects in the cluster, and the few facts read from it. Values only; pure."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]

REVISION = "deployment.kubernetes.io/revision"


@dataclass(frozen=True)
class Observed:
    """The objects of one ModelRuntime, as the caches hold them. `events` are warnings about any of them."""

    deployment: Object | None = None
    replica_sets: tuple[Object, ...] = ()
    pods: tuple[Object, ...] = ()
    endpoint_slices: tuple[Object, ...] = ()
    events: tuple[Object, ...] = ()
    autoscaler: Object | None = None

    @property
    def revision(self) -> str | None:
        return annotation(self.deployment, REVISION) if self.deployment else None

    @property
    def current_replica_set(self) -> Object | None:
        """The ReplicaSet of the Deployment's latest revision, once there is one."""
        wanted = self.revision
        return next((each for each in self.replica_sets if wanted and annotation(each, REVISION) == wanted), None)

    @property
    def current_pods(self) -> tuple[Object, ...]:
        """Pods of the latest revision, the oldest first, so that what is said about them does not flicker."""
        owner = self.current_replica_set
        mine = [pod for pod in self.pods if owner is not None and uid(owner) in owners(pod)]
        return tuple(
            sorted(mine, key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"]))
        )

    @property
    def living_pods(self) -> tuple[Object, ...]:
        """Those of them that count: neither ended nor being deleted."""
        return tuple(pod for pod in self.current_pods if not is_departed(pod))

    @property
    def serving(self) -> int:
        """How many pods take predictions now: ready addresses of the Service, whichever revision they are of."""
        endpoints = (endpoint for each in self.endpoint_slices for endpoint in each.get("endpoints") or ())
        return sum(1 for endpoint in endpoints if (endpoint.get("conditions") or {}).get("ready", True))

    def events_of(self, item: Object, *reasons: str) -> list[Object]:
        """Warnings about that object for those reasons, the latest last."""
        about = (each for each in self.events if each.get("involvedObject", {}).get("uid") == uid(item))
        return sorted((each for each in about if each.get("reason") in reasons), key=event_time)


@dataclass(frozen=True)
class Rollout:
    """The numbers of a Deployment's status. All zero where there is none."""

    replicas: int = 0
    updated: int = 0
    ready: int = 0
    available: int = 0
    wanted: int = 0
    is_observed: bool = False

    @property
    def is_complete(self) -> bool:
        """Every pod is of the latest revision, and there are as many as are wanted: what a Deployment itself calls complete."""
        return self.is_observed and self.replicas == self.updated == self.wanted


def rollout(deployment: Object | None) -> Rollout:
    if deployment is None:
        return Rollout()
    status = deployment.get("status") or {}
    return Rollout(
        replicas=status.get("replicas", 0),
        updated=status.get("updatedReplicas", 0),
        ready=status.get("readyReplicas", 0),
        available=status.get("availableReplicas", 0),
        wanted=deployment["spec"].get("replicas", 1),
        is_observed=status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0),
    )


def condition(item: Object | None, kind: str) -> Object:
    """The condition of that type of any object, empty where it has none."""
    conditions: Iterable[Object] = ((item or {}).get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each.get("type") == kind), {})


def is_ready(pod: Object) -> bool:
    return condition(pod, "Ready").get("status") == "True"


def is_departed(pod: Object) -> bool:
    """Whether the pod has ended for good, or is being deleted: its ReplicaSet has made another."""
    phase = (pod.get("status") or {}).get("phase")
    return phase in ("Failed", "Succeeded") or "deletionTimestamp" in pod["metadata"]


def annotation(item: Object, name: str) -> str | None:
    found: str | None = (item["metadata"].get("annotations") or {}).get(name)
    return found


def uid(item: Object) -> str:
    return str(item["metadata"].get("uid", ""))


def owners(item: Object) -> list[str]:
    return [str(each.get("uid")) for each in item["metadata"].get("ownerReferences") or ()]


def event_time(event: Object) -> str:
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")


_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?Z")


def seconds(time: Any) -> float:
    """A time of the API server (2026-01-01T00:00:00Z, with or without a fraction) as a number; 0 where it says none."""
    found = _TIME.fullmatch(str(time))
    if found is None:
        return 0.0
    *parts, fraction = found.groups()
    year, month, day, hour, minute, second = map(int, parts)
    return calendar.timegm((year, month, day, hour, minute, second)) + float(fraction or 0)
