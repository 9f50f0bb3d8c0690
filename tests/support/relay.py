"""A way to the API server that a test can listen to, disturb and cut. The operator believes it to be the API server."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import aiohttp
from aiohttp import web
from kube import administrator
from yarl import URL

from cluster.controlplane import ControlPlane

_NOT_HANDED_ON = {"host", "connection", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class Fault:
    """What becomes of one call. `status` 0 cuts the connection; `is_late` lets the API server do its work first."""

    status: int
    is_late: bool = False


class Call(NamedTuple):
    """One call that the API server has answered; `began` and `ended` by the monotonic clock."""

    began: float
    ended: float
    method: str
    path: str
    status: int

    @property
    def is_write(self) -> bool:
        """Whether it changed something, the Lease of the election excepted."""
        return self.method != "GET" and self.status < 300 and "/leases" not in self.path


class Relay:
    """`with Relay(plane, folder) as relay:` gives a kubeconfig; `decide` may answer a call (method, path) with a fault."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self._server = plane.server
        self._tls = administrator(plane)
        self._folder = folder
        self._open: set[asyncio.Transport] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="relay")
        self._up = threading.Event()
        self.calls: list[Call] = []
        self.decide: Callable[[str, str], Fault | None] = lambda _method, _path: None
        self.is_cut = False

    def __enter__(self) -> Relay:
        self._thread.start()
        assert self._up.wait(10), "the relay did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    @property
    def writes(self) -> list[Call]:
        return [call for call in list(self.calls) if call.is_write]

    def cut(self) -> None:
        """Parts the operator from the API server: open connections break, new ones come to nothing."""
        self.is_cut = True
        self.cut_watches()

    def mend(self) -> None:
        self.is_cut = False

    def cut_watches(self) -> None:
        """Breaks every connection that is open now."""
        self._loop.call_soon_threadsafe(lambda: [transport.abort() for transport in tuple(self._open)])

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.kubeconfig = self._write_kubeconfig(runner.addresses[0][1])
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            self._up.set()
            await self._end.wait()
            for transport in tuple(self._open):
                transport.abort()
            await runner.cleanup()

    def _write_kubeconfig(self, port: int) -> Path:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "relay",
            "clusters": [{"name": "relay", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "relay", "user": {}}],
            "contexts": [{"name": "relay", "context": {"cluster": "relay", "user": "relay"}}],
        }
        file = self._folder / f"relay-{port}.kubeconfig"
        file.write_text(json.dumps(config))
        return file

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        fault = Fault(0) if self.is_cut else self.decide(request.method, request.path_qs)
        if fault is not None and not fault.is_late:
            return _wrong(request, fault.status)
        transport = request.transport
        if not isinstance(transport, asyncio.Transport):
            return web.Response(status=502)
        self._open.add(transport)
        try:
            return await self._hand_on(request, fault)
        except (aiohttp.ClientError, ConnectionError):
            return _wrong(request, 0)
        finally:
            self._open.discard(transport)

    async def _hand_on(self, request: web.Request, fault: Fault | None) -> web.StreamResponse:
        began = time.monotonic()
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _NOT_HANDED_ON}
        url = URL(self._server + request.raw_path, encoded=True)
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._session.request(
            request.method, url, headers=headers, data=await request.read() or None, timeout=timeout
        ) as answer:
            kept = {key: value for key, value in answer.headers.items() if key.lower() not in _NOT_HANDED_ON}
            if "watch" in request.query:
                return await _stream(request, answer, kept)
            body = await answer.read()
        self.calls.append(Call(began, time.monotonic(), request.method, request.raw_path, answer.status))
        if fault is not None:
            return _wrong(request, fault.status)
        return web.Response(status=answer.status, body=body, headers=kept)


async def _stream(request: web.Request, answer: aiohttp.ClientResponse, headers: dict[str, str]) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=headers)
    await response.prepare(request)
    async for chunk in answer.content.iter_any():
        await response.write(chunk)
    await response.write_eof()
    return response


def _wrong(request: web.Request, status: int) -> web.Response:
    if status == 0 and request.transport is not None:
        request.transport.abort()
    text = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "a fault of the test", "code": status}
    return web.json_response(text, status=status or 502)
