"""Which operator manages a ModelRuntime. Two operators that watch one namespace must not fight over it.

Each Deployment names the Lease of the operator that wrote it. Another operator leaves that ModelRuntime alone while somebody
holds and renews that Lease, and takes over once nobody does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from .. import names
from .connection import Connection
from .errors import Refused
from .lease import DURATION, holder

ALIVE_SECONDS = DURATION * 1.5  # without a renewal, after which the Lease's operator counts as gone
LOOK_SECONDS = 3.0  # between two looks at one Lease


class Claims:
    """`mine` is the `namespace/name` of this operator's Lease, or "" if it takes part in no election."""

    def __init__(self, connection: Connection, mine: str) -> None:
        self._connection, self.mine = connection, mine
        self._seen: dict[str, tuple[str, float]] = {}  # a Lease's version, and when it was first seen
        self._looked: dict[str, tuple[float, bool]] = {}  # when a Lease was read, and whether its operator is alive

    async def rival(self, deployment: Mapping[str, Any] | None) -> str:
        """Returns the `namespace/name` of another living operator's Lease that the Deployment names, or ""."""
        if deployment is None:
            return ""
        named = str((deployment["metadata"].get("annotations") or {}).get(names.OPERATOR, ""))
        if named in ("", self.mine) or named.count("/") != 1:
            return ""
        looked, is_alive = self._looked.get(named, (0.0, False))
        if not looked or time.monotonic() - looked > LOOK_SECONDS:
            is_alive = await self._is_alive(named)
            self._looked[named] = (time.monotonic(), is_alive)
        return named if is_alive else ""

    async def _is_alive(self, named: str) -> bool:
        """Raises ClusterError if that cannot be known, except where reading it is forbidden: then it counts as alive."""
        namespace, _, name = named.partition("/")
        try:
            lease = await self._connection.get(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}")
        except Refused as refusal:
            return refusal.status != 404
        if not holder(lease):
            return False
        version = str(lease["metadata"]["resourceVersion"])
        if self._seen.get(named, ("", 0.0))[0] != version:
            self._seen[named] = (version, time.monotonic())
        return time.monotonic() - self._seen[named][1] < ALIVE_SECONDS
