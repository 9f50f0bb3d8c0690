"""Calls to the API server by its administrator, many at a time. Knows no kind of object."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

import aiohttp

from cluster.controlplane import ControlPlane

MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
_MAX_LINE = 16 << 20  # bytes: one event of a watch


class Denied(Exception):
    """The API server says no: what was asked, and its words."""


class Api:
    """`async with Api(plane) as api:` one session with the API server."""

    def __init__(self, plane: ControlPlane) -> None:
        self._server = plane.server
        pki = plane.folder / "pki"
        self._tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._tls.load_cert_chain(pki / "admin.crt", pki / "admin.key")

    async def __aenter__(self) -> Api:
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=128)
        timeout = aiohttp.ClientTimeout(total=60)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=_MAX_LINE)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def call(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", **params: str
    ) -> Any:
        """The answer's JSON. Raises Denied."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type}
        async with self._session.request(
            method, self._server + path, data=data, params=params, headers=headers
        ) as answer:
            text = await answer.read()
            if answer.status >= 400:
                raise Denied(f"{method} {path}: {answer.status} {text[:500].decode(errors='replace')}")
            return json.loads(text)

    async def text(self, path: str) -> str:
        async with self._session.get(self._server + path) as answer:
            return await answer.text()

    async def watch(self, path: str, version: str) -> AsyncIterator[Mapping[str, Any]]:
        """The events of a collection since that resourceVersion."""
        params = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "7200"}
        endless = aiohttp.ClientTimeout(total=None)
        async with self._session.get(self._server + path, params=params, timeout=endless) as answer:
            async for line in answer.content:
                yield json.loads(line)


async def at_a_time(count: int, work: Iterable[Callable[[], Awaitable[Any]]]) -> None:
    """Does all the work, `count` pieces of it at a time. The first failure ends it."""
    pieces = iter(work)

    async def one_after_the_other() -> None:
        for piece in pieces:
            await piece()

    await asyncio.gather(*(one_after_the_other() for _ in range(count)))
