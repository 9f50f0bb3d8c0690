"""What the kubelet and Prometheus ask over HTTP: /healthz, /readyz, /metrics. Says what is true; decides nothing."""

from __future__ import annotations

from collections import Counter

from aiohttp import web
from prometheus_client import generate_latest

from . import metrics
from .cluster.kinds import MODEL_RUNTIME
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
    reasons = Counter(_reason(engine, key) for key in engine.cache.keys(MODEL_RUNTIME))
    metrics.MODEL_RUNTIMES.clear()
    for reason, count in reasons.items():
        metrics.MODEL_RUNTIMES.labels(reason).set(count)
    return web.Response(body=generate_latest(), content_type="text/plain", charset="utf-8")


def _reason(engine: Engine, key: tuple[str, str]) -> str:
    body = engine.cache.get(MODEL_RUNTIME, key) or {}
    conditions = (body.get("status") or {}).get("conditions") or ()
    return next((str(each["reason"]) for each in conditions if each["type"] == "Ready"), "Unseen")
