"""The watchdog, on the real API server: a watch that is dead behind a green light is found out; nothing else is an alarm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from kube import Kube
from operating import World, runtime

from cluster.controlplane import ControlPlane
from model_runtime_operator.cluster.access import Access
from model_runtime_operator.cluster.cache import Cache
from model_runtime_operator.cluster.connection import Connection
from model_runtime_operator.cluster.informer import Informer
from model_runtime_operator.cluster.kinds import MODEL_RUNTIME, POD
from model_runtime_operator.settings import from_environment
from model_runtime_operator.watchdog import SILENCE_SECONDS, Watchdog

pytestmark = pytest.mark.apiserver

Told = list[tuple[tuple[str, str], str]]


Story = Callable[[Watchdog, Cache, Told], Awaitable[None]]


@pytest.fixture(scope="module")
def way(api: ControlPlane) -> Iterator[Access]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(api.kubeconfig))
        yield Access(from_environment({"RUNTIME_IMAGE": "x", "KUBECONFIG": str(api.kubeconfig)}))


@pytest.fixture
def watch_over(world: World, way: Access) -> Callable[[Story], None]:
    """Runs a story with a watchdog over a cache that only the story fills: a watch that is dead until it says otherwise."""

    async def run(story: Story) -> None:
        told: Told = []
        cache = Cache(lambda key, kind: told.append((key, kind)))
        connection = Connection(way)
        try:
            await story(Watchdog(connection, cache, [], (world.namespace,)), cache, told)
        finally:
            await connection.close()

    return lambda story: asyncio.run(run(story))


def test_a_cluster_without_model_runtimes_is_no_reason_for_alarm(
    world: World, watch_over: Callable[[Story], None]
) -> None:
    async def story(watchdog: Watchdog, cache: Cache, told: Told) -> None:
        await watchdog.look()
        await watchdog.look()
        assert watchdog.problems == []

    watch_over(story)


def test_what_the_watch_has_missed_twice_is_a_problem_until_it_is_known(
    world: World, watch_over: Callable[[Story], None]
) -> None:
    world.apply(runtime())

    async def story(watchdog: Watchdog, cache: Cache, told: Told) -> None:
        await watchdog.look()
        assert watchdog.problems == []  # it may be on its way
        await watchdog.look()
        assert watchdog.problems == [f"the watch of ModelRuntimes has missed 1, first {world.namespace}/adder"]

        cache.put(MODEL_RUNTIME, world.get("mr", "adder"))
        await watchdog.look()
        assert watchdog.problems == []

    watch_over(story)


def test_an_object_that_changes_all_the_time_is_not_taken_for_a_dead_watch(
    world: World, watch_over: Callable[[Story], None]
) -> None:
    world.apply(runtime())

    async def story(watchdog: Watchdog, cache: Cache, told: Told) -> None:
        for number in range(3):
            cache.put(MODEL_RUNTIME, world.get("mr", "adder"))
            world.apply(runtime(env=[{"name": "N", "value": str(number)}]))
            await watchdog.look()  # the watch is one behind, always
        assert watchdog.problems == []

    watch_over(story)


def test_a_deletion_that_the_watch_has_missed_is_made_good(world: World, watch_over: Callable[[Story], None]) -> None:
    world.apply(runtime())
    gone = world.get("mr", "adder")
    world.kubectl("delete", "mr/adder")

    async def story(watchdog: Watchdog, cache: Cache, told: Told) -> None:
        cache.put(MODEL_RUNTIME, gone)
        told.clear()
        await watchdog.look()
        assert cache.get(MODEL_RUNTIME, (world.namespace, "adder")) is None
        assert told == [((world.namespace, "adder"), "ModelRuntime")]

    watch_over(story)


def test_a_watch_that_is_silent_for_too_long_is_named(way: Access) -> None:
    async def story() -> None:
        connection = Connection(way)
        cache = Cache(lambda _key, _kind: None)
        informer = Informer(connection, cache, POD, None)
        watchdog = Watchdog(connection, cache, [informer], (None,))
        assert watchdog.problems == []
        informer.last_sign = time.monotonic() - SILENCE_SECONDS - 1
        assert watchdog.problems == [f"the watch of Pod is silent for {SILENCE_SECONDS + 1:.0f} s"]
        watchdog.last_look = time.monotonic() - 1000  # nobody has an answer from the API server: no restart mends that
        assert watchdog.problems == []
        await connection.close()

    asyncio.run(story())


def test_a_newer_answer_is_not_undone_by_an_older_event(world: World) -> None:
    told: list[Any] = []
    cache = Cache(lambda key, kind: told.append((key, kind)))
    world.apply(runtime())
    older = world.get("mr", "adder")
    world.apply(runtime(replicas=3))
    newer = Kube(world.api, world.namespace).call("GET", world.kube.path("mr", "adder"))

    cache.put(MODEL_RUNTIME, newer)
    cache.put(MODEL_RUNTIME, older)

    assert cache.get(MODEL_RUNTIME, (world.namespace, "adder")) == newer
    assert len(told) == 1
