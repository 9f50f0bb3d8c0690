"""What the kubelet and Prometheus ask over HTTP: /healthz, /readyz, /metrics. Says what is true; decides nothing."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import generate_latest

from . import metrics
from .engine import Engine


async def serve(engine: Engine, port: int) -> web.AppRunner:
    """Begins to answer; `cleanup()` the result to end."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/healthz", lambda _: _answer(engine.problems)),
            web.get("/readyz", lambda _: _answer([] if engine.is_synced else ["the caches are not filled yet"])),
            web.get("/metrics", lambda _: _metrics(engine)),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, None, port).start()
    return runner


async def _answer(problems: list[str]) -> web.Response:
    return web.Response(text="\n".join(problems) or "ok", status=503 if problems else 200)


async def _metrics(engine: Engine) -> web.Response:
    metrics.MODEL_RUNTIMES.clear()
    for reason, count in engine.cache.reasons.items():
        if count:
            metrics.MODEL_RUNTIMES.labels(reason).set(count)
    return web.Response(body=generate_latest(), content_type="text/plain", charset="utf-8")
