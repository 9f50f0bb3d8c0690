"""The operator as one value: connection, caches, queue, election, watchdog and workers, started and stopped together.

kopf starts it and feeds it ModelRuntimes (`handlers`); what is to be done with each is in `reconcile`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from . import metrics
from . import platform as platforms
from .cluster import Cluster, ClusterError, Contested, NotLeading
from .cluster.access import Access
from .cluster.cache import Cache
from .cluster.claims import Claims
from .cluster.connection import Connection
from .cluster.informer import Informer
from .cluster.kinds import MODEL_RUNTIME, OBSERVED, Key, key_of
from .cluster.lease import AlwaysLeading, Election, Replica
from .desired import Platform
from .queue import Queue
from .reconcile import reconcile
from .settings import Settings
from .watchdog import Watchdog

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.5  # changes of children come in flocks: one look at all of them
CONTESTED_SECONDS = 10.0  # until a ModelRuntime that another operator manages is looked at again


class Engine:
    """Made by `start`, ended by `stop`."""

    def __init__(self, settings: Settings, connection: Connection, platform: Platform) -> None:
        self._settings, self._connection, self._platform = settings, connection, platform
        self.queue = Queue()
        self.cache = Cache(self._wake)
        namespaces: tuple[str | None, ...] = settings.namespaces or (None,)
        self.informers = [Informer(connection, self.cache, kind, where) for kind in OBSERVED for where in namespaces]
        self.watchdog = Watchdog(connection, self.cache, self.informers, namespaces)
        self.election = self._election()
        lease = f"{settings.lease_namespace}/{settings.lease_name}" if settings.leader_election else ""
        self.cluster = Cluster(connection, self.cache, self.election, Claims(connection, lease))
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def start(cls, settings: Settings) -> Engine:
        connection = Connection(Access(settings))
        engine = cls(settings, connection, await platforms.read(settings, connection))
        engine._spawn()
        return engine

    async def stop(self) -> None:
        """Ends all work, then gives the Lease up: nothing is written after another replica may lead."""
        *others, election = self._tasks
        await _cancel(others)
        await _cancel([election])
        if isinstance(self.election, Election):
            try:
                await self.election.release()
            except ClusterError as error:
                log.warning("the Lease was not given up", extra={"error": str(error)})
        await self._connection.close()

    def saw(self, kind_of_event: str | None, body: dict[str, Any]) -> None:
        """kopf's news of a ModelRuntime: into the cache, which wakes the queue."""
        if kind_of_event == "DELETED":
            self.cache.remove(MODEL_RUNTIME, key_of(body), body)
        else:
            body["metadata"].pop("managedFields", None)
            self.cache.put(MODEL_RUNTIME, body)

    @property
    def is_synced(self) -> bool:
        return all(informer.synced.is_set() for informer in self.informers)

    @property
    def problems(self) -> list[str]:
        """What is wrong with the operator itself, and only a restart would mend."""
        ended = [task.get_name() for task in self._tasks if task.done()]
        return [*(f"{name} has ended" for name in ended), *self.watchdog.problems]

    def _election(self) -> Election | AlwaysLeading:
        settings = self._settings
        if not settings.leader_election:
            metrics.LEADING.set(1)
            return AlwaysLeading()
        replica = Replica(settings.identity, settings.pod_uid)
        return Election(self._connection, settings.lease_namespace, settings.lease_name, replica, self._on_leading)

    def _spawn(self) -> None:
        work = [(f"watch of {each.kind.name}", each.run()) for each in self.informers]
        work += [(f"worker {number}", self._work()) for number in range(self._settings.workers)]
        work += [("watchdog", self.watchdog.run()), ("resync", self._resync())]
        following = platforms.follow(self._settings, self._connection, self._platform, self._on_platform)
        work += [("runtime image", following)]
        work += [("election", self.election.run() if isinstance(self.election, Election) else asyncio.sleep(10**9))]
        self._tasks = [asyncio.create_task(each, name=name) for name, each in work]
        for task in self._tasks:
            task.add_done_callback(_say_why_it_ended)

    def _wake(self, key: Key, kind: str) -> None:
        if self.election.is_leading:
            self.queue.add(key, 0.0 if kind == MODEL_RUNTIME.name else GATHER_SECONDS)

    def _on_leading(self, is_leading: bool) -> None:
        self.queue.clear()
        if is_leading:
            self._add_all()

    def _on_platform(self, platform: Platform) -> None:
        self._platform = platform
        if self.election.is_leading:
            self._add_all()

    def _add_all(self) -> None:
        for key in self.cache.keys(MODEL_RUNTIME):
            self.queue.add(key)

    async def _resync(self) -> None:
        """Looks at everything again from time to time, though nothing should need it."""
        while True:
            await asyncio.sleep(self._settings.resync_seconds)
            if self.election.is_leading:
                self._add_all()

    async def _work(self) -> None:
        for informer in self.informers:
            await informer.synced.wait()
        while True:
            key = await self.queue.take()
            try:
                await self._reconcile(key)
            finally:
                self.queue.done(key)

    async def _reconcile(self, key: Key) -> None:
        began = time.monotonic()
        outcome = "done"
        try:
            again = await reconcile(key, self.cluster, self._platform)
            self.queue.succeeded(key)
            if again is not None:
                self.queue.add(key, again)
        except NotLeading:
            outcome = "not leading"
        except Contested as error:
            outcome = "contested"
            self.queue.add(key, CONTESTED_SECONDS)
            log.warning("managed by another operator", extra={"modelruntime": "/".join(key), "error": str(error)})
        except ClusterError as error:
            outcome = type(error).__name__
            delay = self.queue.failed(key)
            log.warning(
                "again later", extra={"modelruntime": "/".join(key), "error": str(error), "in": round(delay, 1)}
            )
        except Exception:  # a defect of ours must not end the worker
            outcome = "defect"
            log.exception(
                "reconcile failed", extra={"modelruntime": "/".join(key), "in": round(self.queue.failed(key), 1)}
            )
        finally:
            metrics.RECONCILES.labels(outcome).inc()
            metrics.RECONCILE_SECONDS.observe(time.monotonic() - began)


def _say_why_it_ended(task: asyncio.Task[None]) -> None:
    """Nothing that the engine does may end by itself: `problems` tells the kubelet, this tells the reader of the log."""
    if not task.cancelled():
        log.error("a task of the operator has ended", extra={"task": task.get_name()}, exc_info=task.exception())


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
