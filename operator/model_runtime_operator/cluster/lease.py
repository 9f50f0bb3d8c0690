"""Leader election by a Lease that is renewed every few seconds. A replica that is not certain to hold it never writes.

A leader that is stopped gives the Lease up. A leader whose pod no longer exists is followed after a few seconds. Any
other leader is followed when nobody has seen the Lease change for its duration, measured by each replica's own
monotonic clock, so that wrong wall clocks do no harm.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .. import metrics, names
from .connection import Connection
from .errors import ClusterError, NotLeading, Refused

log = logging.getLogger(__name__)

DURATION = 10.0  # seconds after which a silent leader is followed; with one retry: under 15 s
SURE = 7.0  # seconds after a renewal for which the leader may begin a write; a write takes at most the difference
RETRY = 2.0  # seconds between attempts and renewals
ORPHANED = 5.0  # seconds without a renewal after which a leader whose pod is gone is followed


class Replica(NamedTuple):
    """Who takes part in an election: its name, and the uid of its pod if it is one."""

    identity: str
    pod_uid: str = ""


def holder(lease: Mapping[str, Any]) -> str:
    """Returns the identity of who holds a Lease, or "". Nothing that a Lease may contain is an error."""
    return str((lease.get("spec") or {}).get("holderIdentity") or "")


class Election:
    """`run` it in a task; `on_change` is called when this replica begins and ceases to lead."""

    def __init__(
        self, connection: Connection, namespace: str, name: str, replica: Replica, on_change: Callable[[bool], None]
    ) -> None:
        self._connection, self._namespace = connection, namespace
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name, self._identity, self._pod_uid, self._on_change = name, *replica, on_change
        self._sure_until = 0.0
        self._seen: tuple[str, float] = ("", 0.0)  # the Lease's version, and when it was first seen
        self._was_leading = False

    @property
    def is_leading(self) -> bool:
        return time.monotonic() < self._sure_until

    def seconds_to_write(self) -> float:
        """How long a write that begins now may take. Raises NotLeading."""
        left = self._sure_until - time.monotonic()
        if left <= 0:
            raise NotLeading(f"{self._identity} does not hold the Lease {self._name}")
        return left + (DURATION - SURE) - 0.5

    async def run(self) -> None:
        while True:
            try:
                await self._attempt()
            except ClusterError as error:
                log.warning("the Lease cannot be acquired", extra={"lease": self._name, "error": str(error)})
            except Exception:  # the election must not end: without it nobody leads
                log.exception("the Lease cannot be acquired", extra={"lease": self._name})
            self._tell()
            await asyncio.sleep(RETRY * random.uniform(0.9, 1.1))
            self._tell()

    async def release(self) -> None:
        """Gives the Lease up, so that another replica need not wait."""
        if not self.is_leading:
            return
        self._sure_until = 0.0
        self._tell()
        lease = await self._read()
        if lease is not None and holder(lease) == self._identity:
            lease["spec"]["holderIdentity"] = ""
            await self._write("PUT", f"{self._path}/{self._name}", lease)

    async def _attempt(self) -> None:
        began = time.monotonic()
        lease = await self._read()
        if lease is None:
            await self._write("POST", self._path, self._lease())
        else:
            if not self._may_take(lease) and not await self._is_orphaned(lease):
                return
            await self._write("PUT", f"{self._path}/{self._name}", self._taken(lease))
        self._sure_until = began + SURE

    def _may_take(self, lease: Mapping[str, Any]) -> bool:
        version = str(lease["metadata"]["resourceVersion"])
        if version != self._seen[0]:
            self._seen = (version, time.monotonic())
        return holder(lease) in (self._identity, "") or time.monotonic() - self._seen[1] > DURATION

    async def _is_orphaned(self, lease: Mapping[str, Any]) -> bool:
        """Returns True if the holder was a pod that no longer exists, or has ended.

        A pod that was deleted by force may still run. It renews the Lease then, so a few seconds of silence are required too.
        """
        uid = (lease["metadata"].get("annotations") or {}).get(names.HOLDER_POD)
        if not uid or time.monotonic() - self._seen[1] < ORPHANED:
            return False
        path = f"/api/v1/namespaces/{self._namespace}/pods/{holder(lease)}"
        try:
            pod = await self._connection.call("GET", path, seconds=2.0, retries=0)
        except Refused as refusal:
            return refusal.status == 404
        ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        return ended or pod["metadata"]["uid"] != uid

    def _taken(self, lease: dict[str, Any]) -> dict[str, Any]:
        spec = lease.get("spec") or {}
        fresh = self._lease()
        is_new = holder(lease) != self._identity
        since = {} if is_new else {"acquireTime": spec.get("acquireTime") or fresh["spec"]["acquireTime"]}
        transitions = int(spec.get("leaseTransitions") or 0) + (1 if is_new else 0)
        annotations = {**(lease["metadata"].get("annotations") or {}), **fresh["metadata"]["annotations"]}
        return {
            **lease,
            "metadata": {**lease["metadata"], "annotations": annotations},
            "spec": {**fresh["spec"], **since, "leaseTransitions": transitions},
        }

    def _lease(self) -> dict[str, Any]:
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "annotations": {names.HOLDER_POD: self._pod_uid}},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": int(DURATION),
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": 0,
            },
        }

    async def _read(self) -> dict[str, Any] | None:
        try:
            return await self._connection.call("GET", f"{self._path}/{self._name}", seconds=2.0, retries=0)
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise

    async def _write(self, method: str, path: str, lease: dict[str, Any]) -> None:
        """Raises Refused (409) when another replica was first: its resourceVersion is not ours."""
        written = await self._connection.call(method, path, body=lease, seconds=2.0, retries=0)
        self._seen = (written["metadata"]["resourceVersion"], time.monotonic())

    def _tell(self) -> None:
        if self.is_leading != self._was_leading:
            self._was_leading = self.is_leading
            metrics.LEADING.set(self.is_leading)
            log.info("leading" if self.is_leading else "not leading", extra={"identity": self._identity})
            self._on_change(self.is_leading)


class AlwaysLeading:
    """For one replica alone, on a person's machine: no Lease."""

    is_leading = True

    def seconds_to_write(self) -> float:
        return 10.0
