"""grpc.health.v1 and Hydrosphere's Status, told from one state: what is served here, and whether it can be used now."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2

from .. import wire
from ..protocols import PROTOCOLS
from ..supervisor.host import HostState, Phase

PROCESS_NAMES = ("", "liveness", health.SERVICE_NAME)
"""Names that mean the process: "" is what probes ask that know no better, liveness is customary in pod specs."""

MODEL_NAMES = (
    *(protocol.service for protocol in PROTOCOLS.values()),
    "tensorflow.serving",
    "PredictionService",
    "readiness",
)
"""Names that mean the model: each predicting service in full, and the customary short ones."""

# StatusResponse.ServiceStatus of hydrosphere 2.x
_STATUS = {Phase.LOADING: 0, Phase.SERVING: 1, Phase.FAILED: 2}


class Health(health.HealthServicer):  # type: ignore[misc]  # grpcio-health-checking has no types
    """Check, Watch and List, and what Status tells. The process serves from the bind on, the model once it is loaded."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        super().__init__(experimental_non_blocking=True, experimental_thread_pool=pool)
        self._state = HostState(Phase.LOADING, "the model is not loaded yet")
        self._state_lock = threading.Lock()
        self.is_alive: Callable[[], bool] = lambda: True  # computed where predictions are made: the host says it
        for name in PROCESS_NAMES:
            self.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._tell()

    @property
    def state(self) -> HostState:
        return self._state

    def update(self, state: HostState) -> None:
        """The model's state changed."""
        with self._state_lock:
            self._state = state
            self._tell()

    def drain(self) -> None:
        """From now on everything is NOT_SERVING, for good, although calls are still answered for a while."""
        with self._state_lock:
            self._state = HostState(Phase.FAILED, "the runtime is stopping")
            self.enter_graceful_shutdown()

    def _tell(self) -> None:
        serving = self._state.phase is Phase.SERVING
        code = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in MODEL_NAMES:
            self.set(name, code)

    def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        if request.service in PROCESS_NAMES and not self.is_alive():
            return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)
        return super().Check(request, context)

    def List(
        self, request: health_pb2.HealthListRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthListResponse:
        with self._lock:
            statuses = dict(self._server_status)
        return health_pb2.HealthListResponse(
            statuses={name: health_pb2.HealthCheckResponse(status=status) for name, status in statuses.items()}
        )

    def status_response(self) -> bytes:
        """`tensorflow.serving.StatusResponse` {1: status, 2: message}. UNKNOWN while loading: the manager then waits."""
        state = self._state
        status = wire.varint_field(1, _STATUS[state.phase]) if _STATUS[state.phase] else b""
        return status + wire.length_field(2, state.message.encode("utf-8", "replace"))
