"""Calls to the API server: plain dicts over HTTP, retried with back-off and jitter. Knows no kind of object and no leader."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

from .. import metrics
from .access import Access
from .errors import Refused, Unavailable

log = logging.getLogger(__name__)

APPLY = "application/apply-patch+yaml"  # JSON is YAML
MERGE = "application/merge-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

CALL_SECONDS = 10.0
RETRIES = 4
SILENCE_SECONDS = 90.0  # the API server sends a bookmark every minute; a watch that is silent for longer is dead
# A server-side apply of fields that do not exist is refused in these words, with status 500.
_MALFORMED = b"failed to create typed patch object"
_LATER = {408, 429, 500, 502, 503, 504}
_MAX_LINE = 64 * 1024 * 1024  # an object's JSON is one line of a watch


class Connection:
    """One HTTP session with the API server. `close` it."""

    def __init__(self, access: Access) -> None:
        self._access = access
        connector = aiohttp.TCPConnector(limit=64, ssl=access.tls or True)
        self._session = aiohttp.ClientSession(connector=connector, read_bufsize=_MAX_LINE, trust_env=False)

    async def close(self) -> None:
        await self._session.close()

    async def get(self, path: str, accept: str = "application/json", **params: str) -> dict[str, Any]:
        return await self.call("GET", path, accept=accept, params=params)

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        params: Mapping[str, str] | None = None,
        seconds: float = CALL_SECONDS,
        retries: int = RETRIES,
    ) -> dict[str, Any]:
        """The answer's body. Raises Refused (4xx) or, after the retries, Unavailable. Every call of ours may be repeated."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type, "Accept": accept}
        for attempt in range(retries + 1):
            pause = 0.2 * 2**attempt * random.uniform(0.5, 1.5)
            try:
                return await self._once(method, path, headers, data, params, seconds)
            except _Later as later:
                if attempt == retries:
                    raise Unavailable(f"{method} {path}: {later}") from None
                metrics.API_RETRIES.inc()
                await asyncio.sleep(max(pause, min(later.retry_after, 5.0)))
        raise AssertionError("unreachable")

    async def _once(
        self, method: str, path: str, headers: dict[str, str], data: bytes | None, params: Any, seconds: float
    ) -> dict[str, Any]:
        started = time.monotonic()
        code = "none"
        try:
            async with self._session.request(
                method,
                self._access.server + path,
                headers={**headers, **self._access.headers()},
                data=data,
                params=params,
                timeout=aiohttp.ClientTimeout(total=seconds),
            ) as response:
                code = str(response.status)
                text = await response.read()
                if response.status in _LATER and _MALFORMED not in text:
                    raise _Later(f"{response.status} {text[:300].decode(errors='replace')}", _retry_after(response))
                answer = json.loads(text) if text else {}
                if response.status >= 400:
                    raise Refused(422 if _MALFORMED in text else response.status, answer, f"{method} {path}")
                return dict(answer)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as error:
            raise _Later(f"{type(error).__name__}: {error}") from None
        finally:
            metrics.API_CALLS.labels(method, code).inc()
            metrics.API_SECONDS.labels(method).observe(time.monotonic() - started)

    async def watch(self, path: str, accept: str, params: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        """The events of a watch until it ends. Raises Unavailable when it breaks or falls silent, Refused for 4xx."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CALL_SECONDS, sock_read=SILENCE_SECONDS)
        wanted = {**params, "watch": "true", "allowWatchBookmarks": "true"}
        headers = {"Accept": accept, **self._access.headers()}
        try:
            async with self._session.get(
                self._access.server + path, params=wanted, headers=headers, timeout=timeout
            ) as response:
                if response.status >= 400:
                    text = (await response.read())[:500].decode(errors="replace")
                    if response.status in _LATER:
                        raise Unavailable(f"watch {path}: {response.status} {text}")
                    raise Refused(response.status, text, f"watch {path}")
                async for line in response.content:
                    yield json.loads(line)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as error:
            raise Unavailable(f"watch {path}: {type(error).__name__}: {error}") from None


class _Later(Exception):
    def __init__(self, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after


def _retry_after(response: aiohttp.ClientResponse) -> float:
    with contextlib.suppress(ValueError):
        return float(response.headers.get("Retry-After", "0"))
    return 0.0
