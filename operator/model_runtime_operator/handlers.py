"""What wakes us: kopf's process and its watch of ModelRuntimes. Translates, and does nothing else.

Only low-level handlers: no finalizer, no annotation, no state of kopf's on anybody's object, so that a ModelRuntime can be
deleted while the operator is down. Created, updated, resumed: all the same; children, source ConfigMaps and the resync end in
the same queue.
"""

from __future__ import annotations

from typing import Any

import kopf

from . import engine as engines
from . import logs, names, probes, settings
from .cluster import access


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    ours = _settings()
    logs.configure(ours.log_level, ours.log_format)
    _configure(settings)
    memo.engine = await engines.Engine.start(ours)
    memo.probes = await probes.serve(memo.engine, ours.http_port)


@kopf.on.login()
def login(**_: Any) -> kopf.ConnectionInfo:
    return access.login(_settings())


@kopf.on.event(names.GROUP, names.VERSION, names.PLURAL)
async def saw(event: kopf.RawEvent, memo: kopf.Memo, **_: Any) -> None:
    memo.engine.saw(event["type"], dict(event["object"]))


@kopf.on.cleanup()
async def stop(memo: kopf.Memo, **_: Any) -> None:
    if "engine" in memo:
        await memo.engine.stop()
    if "probes" in memo:
        await memo.probes.cleanup()


def _configure(kopf_settings: kopf.OperatorSettings) -> None:
    kopf_settings.posting.enabled = False  # Events are told by us, one for each transition
    kopf_settings.peering.standalone = True  # a Lease decides who leads
    kopf_settings.scanning.disabled = True  # no watch of CRDs and namespaces: fewer permissions
    kopf_settings.queueing.idle_timeout = 1.0
    kopf_settings.watching.chunk_size = 200  # a list of 10,000 objects at once blocks the loop, and peaks in memory
    kopf_settings.networking.request_timeout = 30.0
    kopf_settings.networking.error_backoffs = _BACK_OFFS


_BACK_OFFS = (
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    15,
    15,
    15,
    15,
    15,
    15,
)  # seconds; then kopf gives up and the kubelet starts us anew


def _settings() -> settings.Settings:
    return settings.from_environment()
