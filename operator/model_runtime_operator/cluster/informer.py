"""A list and a watch that keep one kind in the cache, and say how long ago they gave a sign of life. Reads only."""

from __future__ import annotations

import asyncio
import logging
import random
import time

from .. import metrics
from .cache import Cache
from .connection import METADATA_LIST, METADATA_ONLY, Connection
from .errors import ClusterError, Refused
from .kinds import Kind, Object, key_of

log = logging.getLogger(__name__)

PAGE = "500"
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 15.0  # seconds before a broken watch is started again


class Informer:
    """One kind in one namespace (None: all). `run` it in a task of its own."""

    def __init__(self, connection: Connection, cache: Cache, kind: Kind, namespace: str | None) -> None:
        self._connection, self._cache, self.kind, self._namespace = connection, cache, kind, namespace
        self._path = kind.path(namespace)
        self.synced = asyncio.Event()
        self.last_sign = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since the API server last told anything, be it a bookmark."""
        return time.monotonic() - self.last_sign

    async def run(self) -> None:
        pause, version = FIRST_PAUSE, ""
        while True:
            try:
                version = version or await self._list()
                async for version in self._events(version):
                    pause = FIRST_PAUSE
                why = "ended"
            except _Gone:
                version, why = "", "gone"
            except ClusterError as error:
                why = "refused" if isinstance(error, Refused) else "broken"
                version = "" if isinstance(error, Refused) else version
                log.warning("watch broken", extra={"kind": self.kind.name, "error": str(error), "again_in": round(pause, 1)})
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(pause * 2, LONGEST_PAUSE)
            metrics.WATCH_RESTARTS.labels(self.kind.name, why).inc()

    async def _list(self) -> str:
        items, token, version = [], "", ""
        while True:
            params = {**self._selectors(), "limit": PAGE, **({"continue": token} if token else {})}
            accept = METADATA_LIST if self.kind.metadata_only else "application/json"
            try:
                page = await self._connection.get(self._path, accept, **params)
            except Refused as refusal:
                if refusal.status == 410:  # the continuation is too old: begin again
                    raise _Gone from None
                raise
            items += [self.kind.keep(item) for item in page.get("items") or ()]
            token, version = page["metadata"].get("continue", ""), page["metadata"]["resourceVersion"]
            if not token:
                break
        self._cache.replace(self.kind, self._namespace, items)
        self.last_sign = time.monotonic()
        self.synced.set()
        return str(version)

    async def _events(self, version: str):  # type: ignore[no-untyped-def]
        accept = METADATA_ONLY if self.kind.metadata_only else "application/json"
        params = {**self._selectors(), "resourceVersion": version}
        async for event in self._connection.watch(self._path, accept, params):
            self.last_sign = time.monotonic()
            if event["type"] == "ERROR":
                raise _Gone
            yield self._take(event["type"], event["object"])

    def _take(self, kind_of_event: str, item: Object) -> str:
        version = str(item["metadata"]["resourceVersion"])
        if kind_of_event == "DELETED":
            self._cache.remove(self.kind, key_of(item), item["metadata"].get("uid"))
        elif kind_of_event != "BOOKMARK":
            self._cache.put(self.kind, self.kind.keep(item))
        return version

    def _selectors(self) -> dict[str, str]:
        selectors = {"labelSelector": self.kind.label_selector, "fieldSelector": self.kind.field_selector}
        return {key: value for key, value in selectors.items() if value}


class _Gone(Exception):
    """The version is too old to go on from: list again."""
