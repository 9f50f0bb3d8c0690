"""The end of a port: no call is lost that the model was given, and one that crosses the stop ends UNAVAILABLE.

grpcio's own stop sends a GOAWAY and ends what crosses it CANCELLED, which clients do not repeat. So it comes last, when nobody is
connected any more: first nobody can connect, then each connection is closed once its calls are answered.
"""

from __future__ import annotations

import time

import grpc

from ..errors import NotServing
from . import connections
from .engine import Direct
from .methods import STOPPING, Bounds, Gate

TICK_SECONDS = 0.05
QUIET_SECONDS = 0.05  # between a connection's last answer and its end, for the client to read it
ARRIVAL_SECONDS = 1.0  # for the rest of a request that is half sent
FAREWELL_SECONDS = 0.2  # for the last statuses to be written, where calls had to be ended


class Stop:
    """Ends the calls of one server."""

    def __init__(self, server: grpc.Server, port: int, engine: Direct, gate: Gate, bounds: Bounds) -> None:
        self._server, self._port, self._engine, self._gate, self._bounds = server, port, engine, gate, bounds

    def run(self, grace: float) -> None:
        """Blocks until every call in flight has ended, or for `grace` seconds, after which they are answered UNAVAILABLE."""
        self._gate.close()
        connections.stop_listening(self._port)
        for places in self._bounds.streams:
            places.refuse(NotServing(STOPPING))
        if not self._await_calls(grace):
            self._engine.end_all(
                NotServing(f"{STOPPING}, and the model did not answer within {grace:g} s (GRACE_SECONDS)")
            )
            time.sleep(FAREWELL_SECONDS)
        connections.close(self._port)
        self._server.stop(0).wait()

    def _await_calls(self, grace: float) -> bool:
        """Closes each connection as soon as its calls are answered; returns whether all were in time."""
        began = time.monotonic()
        busy_at: dict[int, float] = {}
        while True:
            now = time.monotonic()
            if now - began >= min(ARRIVAL_SECONDS, grace):
                for places in self._bounds.arriving:
                    places.refuse(NotServing(STOPPING))
            busy = self._engine.busy_ports(before=began)
            busy_at.update(dict.fromkeys(busy, now))
            if now - began >= QUIET_SECONDS:
                connections.close(self._port, keep={port for port, at in busy_at.items() if now - at < QUIET_SECONDS})
                if not busy:
                    return True
            if now - began >= grace:
                return not busy
            time.sleep(TICK_SECONDS)
