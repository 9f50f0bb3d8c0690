"""Which replica leads: a Lease, renewed every few seconds. Who is not sure to hold it does not write.

A leader that is stopped gives the Lease up at once; one that dies is followed when nobody has seen the Lease change for its
duration, by each replica's own monotonic clock, so that wrong wall clocks do no harm.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import random
import time
from collections.abc import Callable
from typing import Any

from .. import metrics
from .connection import Connection
from .errors import ClusterError, NotLeading, Refused

log = logging.getLogger(__name__)

DURATION = 10.0  # seconds after which a silent leader is followed; with one retry: under 15 s
SURE = 7.0  # seconds after a renewal for which the leader may begin a write; a write takes at most the difference
RETRY = 2.0  # seconds between attempts and renewals


class Election:
    """`run` it in a task; `on_change` is told when this replica begins and ceases to lead."""

    def __init__(
        self, connection: Connection, namespace: str, name: str, identity: str, on_change: Callable[[bool], None]
    ) -> None:
        self._connection = connection
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name, self._identity, self._on_change = name, identity, on_change
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
                log.warning("the Lease cannot be had", extra={"lease": self._name, "error": str(error)})
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
        if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
            lease["spec"]["holderIdentity"] = ""
            await self._write("PUT", f"{self._path}/{self._name}", lease)

    async def _attempt(self) -> None:
        began = time.monotonic()
        lease = await self._read()
        if lease is None:
            await self._write("POST", self._path, self._lease())
        else:
            if not self._may_take(lease):
                return
            await self._write("PUT", f"{self._path}/{self._name}", self._taken(lease))
        self._sure_until = began + SURE

    def _may_take(self, lease: dict[str, Any]) -> bool:
        holder, version = lease["spec"].get("holderIdentity"), lease["metadata"]["resourceVersion"]
        if version != self._seen[0]:
            self._seen = (version, time.monotonic())
        return holder in (self._identity, "", None) or time.monotonic() - self._seen[1] > DURATION

    def _taken(self, lease: dict[str, Any]) -> dict[str, Any]:
        spec = lease["spec"]
        is_new = spec.get("holderIdentity") != self._identity
        fresh = self._lease()["spec"]
        since = {} if is_new else {"acquireTime": spec.get("acquireTime", fresh["acquireTime"])}
        transitions = spec.get("leaseTransitions", 0) + (1 if is_new else 0)
        return {**lease, "spec": {**fresh, **since, "leaseTransitions": transitions}}

    def _lease(self) -> dict[str, Any]:
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name},
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
