"""The fleet: many ModelRuntimes in many namespaces, made, changed, and followed by a watch. Knows no operator."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from .api import MERGE, Api, at_a_time

PLACE = "/apis/runtime.hydrosphere.io/v1alpha1"
OF_A_NAMESPACE = 100
CREATED_AT_A_TIME = 16
_Seen = defaultdict[int, dict[str, float]]  # generation -> name -> monotonic time
CODE = "def predict(values):\n    return {{'mean': values.mean(axis=1) + {number}}}\n"


def namespaces(count: int) -> list[str]:
    return [f"team-{number}" for number in range((count + OF_A_NAMESPACE - 1) // OF_A_NAMESPACE)]


def model_runtime(number: int) -> dict[str, Any]:
    """The smallest that is whole: a contract, and a model of two lines that is nobody else's."""
    fields = {"values": {"shape": [-1, 3], "type": "double", "profile": "numerical"}}
    return {
        "apiVersion": "runtime.hydrosphere.io/v1alpha1",
        "kind": "ModelRuntime",
        "metadata": {"name": f"model-{number:05}", "namespace": f"team-{number // OF_A_NAMESPACE}"},
        "spec": {
            "contract": {"name": "predict", "inputs": fields, "outputs": {"mean": {"shape": [-1], "type": "double"}}},
            "model": {"inline": {"src/func_main.py": CODE.format(number=number)}},
        },
    }


def path_of(item: Mapping[str, Any]) -> str:
    return f"{PLACE}/namespaces/{item['metadata']['namespace']}/modelruntimes"


async def create(api: Api, count: int) -> None:
    def creating(number: int) -> Callable[[], Any]:
        item = model_runtime(number)
        return lambda: api.call("POST", path_of(item), item)

    await at_a_time(CREATED_AT_A_TIME, (creating(number) for number in range(count)))


class Followed:
    """When each ModelRuntime was first seen reconciled (its status speaks of its spec) and first seen Ready."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._reconciled: _Seen = defaultdict(dict)
        self._ready: _Seen = defaultdict(dict)
        self._news = asyncio.Event()

    async def begin(self) -> None:
        version = (await self._api.call("GET", f"{PLACE}/modelruntimes", limit="1"))["metadata"]["resourceVersion"]
        self._task = asyncio.create_task(self._follow(version))

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def all_reconciled(self, count: int, generation: int = 1) -> float:
        """When the last of `count` was first seen reconciled, by the monotonic clock."""
        return await self._all(self._reconciled, count, generation)

    async def all_ready(self, count: int, generation: int = 1) -> float:
        return await self._all(self._ready, count, generation)

    async def reconciled(self, name: str, generation: int) -> float:
        await self._until(lambda: name in self._reconciled[generation])
        return self._reconciled[generation][name]

    async def _all(self, seen: _Seen, count: int, generation: int) -> float:
        await self._until(lambda: len(seen[generation]) >= count)
        return max(seen[generation].values())

    async def _until(self, check: Callable[[], bool]) -> None:
        while not check():
            if self._task.done():
                self._task.result()
                raise RuntimeError("the watch of ModelRuntimes ended")
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), 1.0)
            except asyncio.TimeoutError:
                continue

    async def _follow(self, version: str) -> None:
        async for event in self._api.watch(f"{PLACE}/modelruntimes", version):
            if event["type"] in ("ADDED", "MODIFIED"):
                self._see(event["object"])
            elif event["type"] == "ERROR":
                raise RuntimeError(f"the watch of ModelRuntimes: {event['object']}")

    def _see(self, item: Mapping[str, Any]) -> None:
        metadata, status = item["metadata"], item.get("status") or {}
        if status.get("observedGeneration") != metadata["generation"]:
            return
        name, generation, now = metadata["name"], metadata["generation"], time.monotonic()
        self._reconciled[generation].setdefault(name, now)
        if any(each["type"] == "Ready" and each["status"] == "True" for each in status["conditions"]):
            self._ready[generation].setdefault(name, now)
        self._news.set()


async def change(api: Api, number: int, replicas: int) -> int:
    """Asks for another number of replicas; gives the spec's new generation."""
    item = model_runtime(number)
    path = f"{path_of(item)}/{item['metadata']['name']}"
    changed = await api.call("PATCH", path, {"spec": {"replicas": replicas}}, MERGE)
    return int(changed["metadata"]["generation"])
