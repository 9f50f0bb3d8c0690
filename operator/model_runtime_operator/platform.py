"""Asks the cluster what the desired objects depend on, and notices when the runtime's image changes. Reads only."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable

from . import names
from .cluster import ClusterError
from .cluster.connection import Connection
from .desired import CaBundle, Platform
from .settings import InvalidSetting, Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 30.0
_IMAGE_VOLUMES_SINCE = (1, 35)  # on by default
_PRE_STOP_SLEEP_SINCE = (1, 30)  # on by default
_OPEN_SHIFT_GROUP = "security.openshift.io"


async def read(settings: Settings, connection: Connection) -> Platform:
    """Returns the platform; the API server's version decides what is left open. Raises ClusterError, InvalidSetting."""
    answer = await connection.get("/version")
    version = (int(answer["major"]), int("".join(char for char in answer["minor"] if char.isdigit())))
    image_volumes = version >= _IMAGE_VOLUMES_SINCE if settings.image_volumes is None else settings.image_volumes
    assigns_users = settings.assigns_users
    return Platform(
        runtime_image=settings.runtime_image or await _image(settings, connection),
        image_volumes=image_volumes,
        pre_stop_sleep=version >= _PRE_STOP_SLEEP_SINCE,
        assigns_users=await _is_open_shift(connection) if assigns_users is None else assigns_users,
        cluster_domain=settings.cluster_domain,
        defaults=settings.defaults,
        proxies=settings.proxies,
        ca_bundle=CaBundle(*settings.ca_bundle) if settings.ca_bundle else None,
    )


async def _is_open_shift(connection: Connection) -> bool:
    """Returns True if security context constraints decide as which user a pod runs."""
    groups = (await connection.get("/apis"))["groups"]
    return any(group["name"] == _OPEN_SHIFT_GROUP for group in groups)


async def follow(
    settings: Settings, connection: Connection, platform: Platform, on_change: Callable[[Platform], None]
) -> None:
    """Calls `on_change` whenever the pod template has another image. Never returns."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if settings.runtime_image:
            continue
        try:
            image = await _image(settings, connection)
        except (ClusterError, InvalidSetting) as error:  # the last image stays in use
            log.warning("the runtime's image cannot be read", extra={"error": str(error)})
            continue
        if image != platform.runtime_image:
            log.info("the runtime's image changed", extra={"image": image})
            platform = dataclasses.replace(platform, runtime_image=image)
            on_change(platform)


async def _image(settings: Settings, connection: Connection) -> str:
    """The image of the container `runtime` in the pod template, where kustomize, mirrors and scanners see an image."""
    name = settings.runtime_template
    template = await connection.get(f"/api/v1/namespaces/{settings.lease_namespace}/podtemplates/{name}")
    containers = ((template.get("template") or {}).get("spec") or {}).get("containers") or ()
    found = next((str(each.get("image") or "") for each in containers if each.get("name") == names.CONTAINER), "")
    if not found:
        raise InvalidSetting(
            f"RUNTIME_TEMPLATE: expected a container {names.CONTAINER!r} with an image in PodTemplate {name}"
        )
    return found
