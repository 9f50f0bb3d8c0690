"""Proves that what the operator believes is what the API server has, and says so to the kubelet. Reads only.

kopf's watch of ModelRuntimes is compared with a list of their metadata: an object that the list has and the cache lacks, or
knows only in an older version, for two looks in a row means that the watch is dead behind a green light. Deletions that kopf
missed while it was disconnected are made good. The other watches prove themselves by the API server's bookmarks.
"""

from __future__ import annotations

import asyncio
import logging
import time

from . import metrics
from .cluster.cache import Cache
from .cluster.connection import METADATA_LIST, Connection
from .cluster.errors import ClusterError
from .cluster.informer import PAGE, Informer
from .cluster.kinds import MODEL_RUNTIME, Key, key_of

log = logging.getLogger(__name__)

LOOK_SECONDS = 30.0
SILENCE_SECONDS = 200.0  # three bookmarks; an informer reconnects by itself long before


class Watchdog:
    """`run` it in a task; `problems` says what is wrong, empty while all is well."""

    def __init__(
        self, connection: Connection, cache: Cache, informers: list[Informer], namespaces: tuple[str | None, ...]
    ) -> None:
        self._connection, self._cache, self._informers, self._namespaces = connection, cache, informers, namespaces
        self._behind: dict[Key, str] = {}
        self._dead: list[str] = []
        self.last_look = time.monotonic()

    @property
    def problems(self) -> list[str]:
        silent = [
            f"the watch of {each.kind.name} is silent for {each.age:.0f} s"
            for each in self._informers
            if self._is_silent(each)
        ]
        return [*self._dead, *silent]

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for informer in self._informers:
                metrics.WATCH_AGE.labels(informer.kind.name).set(informer.age)
            try:
                await self.look()
            except ClusterError as error:  # the API server is away, which no restart of ours would mend
                log.warning("the watch cannot be proved", extra={"error": str(error)})
                self._behind, self._dead = {}, []

    async def look(self) -> None:
        before = set(self._cache.keys(MODEL_RUNTIME))
        listed = await self._listed()
        for key in before - set(listed):
            self._cache.remove(MODEL_RUNTIME, key)
        behind = {key: version for key, version in listed.items() if self._known(key) < int(version)}
        still = sorted(key for key in behind if key in self._behind and self._known(key) < int(self._behind[key]))
        self._dead = (
            [f"the watch of ModelRuntimes has missed {len(still)}, first {'/'.join(still[0])}"] if still else []
        )
        self._behind = behind
        self.last_look = time.monotonic()
        metrics.WATCH_AGE.labels(MODEL_RUNTIME.name).set(LOOK_SECONDS * 2 if still else 0)

    async def _listed(self) -> dict[Key, str]:
        found: dict[Key, str] = {}
        for namespace in self._namespaces:
            token = ""
            while True:
                params = {"limit": PAGE, **({"continue": token} if token else {})}
                page = await self._connection.get(MODEL_RUNTIME.path(namespace), METADATA_LIST, **params)
                found.update((key_of(item), item["metadata"]["resourceVersion"]) for item in page.get("items") or ())
                token = page["metadata"].get("continue", "")
                if not token:
                    break
        return found

    def _known(self, key: Key) -> int:
        return self._cache.version(MODEL_RUNTIME, key)

    def _is_silent(self, informer: Informer) -> bool:
        """Silent while the API server answers the watchdog: then it is the watch that is dead."""
        return informer.age > SILENCE_SECONDS and time.monotonic() - self.last_look < 3 * LOOK_SECONDS
