"""The health of everything that the port serves, computed from one state, and who watches it.

Pure: knows no gRPC. `control` answers grpc.health.v1 and Hydrosphere's Status out of it.
"""

from __future__ import annotations

import contextlib
import enum
import threading
from collections.abc import Callable

from .. import wire
from ..protocols import PROTOCOLS
from ..supervisor.host import HostState, Phase

SERVICE = "grpc.health.v1.Health"

PROCESS_NAMES = ("", "liveness", SERVICE)
"""Names that mean the process: "" is what probes ask that know no better, liveness is customary in pod specs."""

MODEL_NAMES = (
    *(protocol.service for protocol in PROTOCOLS.values()),
    "tensorflow.serving.ModelService",
    "tensorflow.serving",
    "PredictionService",
    "readiness",
)
"""Names that mean the model: each predicting service in full, and the customary short ones."""

# StatusResponse.ServiceStatus of hydrosphere 2.x
_STATUS = {Phase.LOADING: 0, Phase.SERVING: 1, Phase.FAILED: 2}


class Status(enum.IntEnum):
    """grpc.health.v1.HealthCheckResponse.ServingStatus."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


class Health:
    """Whether the process and the model can be used. The process serves from the bind on, the model once it is loaded.

    A status is computed when it is asked for: nothing is kept for a name. No lock is held while a watcher is notified.
    """

    def __init__(self) -> None:
        self._state = HostState(Phase.LOADING, "the model is not loaded yet")
        self._is_draining = False
        self._lock = threading.Lock()  # of the state and the set of watchers, never held while one is told
        self._watchers: set[Subscription] = set()
        self._was_alive = True
        self.is_alive: Callable[[], bool] = lambda: True  # computed where predictions are made: the host says it

    @property
    def state(self) -> HostState:
        return self._state

    def check(self, name: str) -> Status | None:
        """The status of a name, None for one that nobody serves."""
        if name in PROCESS_NAMES:
            return _serving(self.is_alive() and not self._is_draining)
        if name in MODEL_NAMES:
            return _serving(self._state.phase is Phase.SERVING)
        return None

    def statuses(self) -> dict[str, Status]:
        """The status of every name."""
        found = {name: self.check(name) for name in (*PROCESS_NAMES, *MODEL_NAMES)}
        return {name: status for name, status in found.items() if status is not None}

    # Changes ------------------------------------------------------------------------------------------------------

    def update(self, state: HostState) -> None:
        """The model's state changed. Has no effect once the runtime is stopping."""
        with self._lock:
            if self._is_draining:
                return
            self._state = state
        self._tell()

    def drain(self) -> None:
        """From now on every name is NOT_SERVING, permanently, although calls are still answered for a while."""
        with self._lock:
            self._is_draining = True
            self._state = HostState(Phase.FAILED, "the runtime is stopping")
        self._tell()

    def refresh(self) -> None:
        """Tells the watchers where the process itself has come to a halt or gone on: nobody reports that."""
        is_alive = self.is_alive()
        if is_alive is not self._was_alive:
            self._was_alive = is_alive
            self._tell()

    def watch(self, name: str, changed: Callable[[], None]) -> Subscription:
        """`changed` is called after each change, from any thread; it reads `status` and must not block."""
        subscription = Subscription(self, name, changed)
        with self._lock:
            self._watchers.add(subscription)
        return subscription

    def leave(self, subscription: Subscription) -> None:
        with self._lock:
            self._watchers.discard(subscription)

    @property
    def watching(self) -> int:
        """How many watch."""
        return len(self._watchers)

    def _tell(self) -> None:
        with self._lock:
            watchers = list(self._watchers)
        for watcher in watchers:
            with contextlib.suppress(Exception):  # a watcher's trouble is its own
                watcher.changed()

    def status_response(self) -> bytes:
        """`tensorflow.serving.StatusResponse` {1: status, 2: message}. UNKNOWN while loading: the manager then waits."""
        state = self._state
        status = wire.varint_field(1, _STATUS[state.phase]) if _STATUS[state.phase] else b""
        return status + wire.length_field(2, state.message.encode("utf-8", "replace"))


class Subscription:
    """One watcher of one name. Holds no status: what it has not read yet it reads as it is then."""

    def __init__(self, health: Health, name: str, changed: Callable[[], None]) -> None:
        self._health, self._name, self.changed = health, name, changed

    @property
    def status(self) -> Status:
        found = self._health.check(self._name)
        return Status.SERVICE_UNKNOWN if found is None else found

    def close(self) -> None:
        """Nothing remains of the watcher. May be called again."""
        self._health.leave(self)


def _serving(value: bool) -> Status:
    return Status.SERVING if value else Status.NOT_SERVING
