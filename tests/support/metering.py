"""A metrics API whose numbers a test decides: what metrics-server is on a real node, behind the real aggregation layer."""

from __future__ import annotations

import datetime
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from operating import World

from cluster.certificates import Authority

_GROUP_VERSION = "metrics.k8s.io/v1beta1"
_API_SERVICE = "v1beta1.metrics.k8s.io"


class Meter:
    """The CPU that all pods of a namespace use together, in thousandths of a core, divided among those that are ready."""

    def __init__(self, world: World) -> None:
        self._world, self.millicores = world, 0

    def pods(self) -> list[dict[str, Any]]:
        ready = [pod["metadata"] for pod in self._world.all("pods") if _is_ready(pod)]
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        usage = {"cpu": f"{self.millicores // max(1, len(ready))}m", "memory": "64Mi"}
        return [
            {
                "metadata": {key: metadata[key] for key in ("name", "namespace", "labels")},
                "timestamp": now,
                "window": "1s",
                "containers": [{"name": "runtime", "usage": usage}],
            }
            for metadata in ready
        ]


@contextmanager
def metered(world: World, folder: Path) -> Iterator[Meter]:
    """A Meter that the API server serves as metrics.k8s.io, until the end."""
    meter = Meter(world)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(meter))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(folder / "metrics").server("metrics"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        _register(world, server.server_port)
        yield meter
    finally:
        world.kubectl("delete", "apiservice", _API_SERVICE)  # else the namespace could not be emptied
        server.shutdown()
        server.server_close()


def _register(world: World, port: int) -> None:
    service = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}
    world.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "metrics"}, "spec": service})
    group, version = _GROUP_VERSION.split("/")
    spec = {
        "group": group,
        "version": version,
        "service": {"name": "metrics", "namespace": world.namespace, "port": port},
        "insecureSkipTLSVerify": True,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
    }
    body = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": _API_SERVICE},
        "spec": spec,
    }
    world.kubectl("create", "-f", "-", text=json.dumps(body))
    world.kubectl("wait", "--for=condition=Available", f"apiservice/{_API_SERVICE}", "--timeout=30s")


def _handler(meter: Meter) -> type[BaseHTTPRequestHandler]:
    resources = [
        {"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics", "verbs": ["get", "list"]}
    ]
    discovery = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": _GROUP_VERSION, "resources": resources}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == f"/apis/{_GROUP_VERSION}":
                self._answer(200, discovery)
            elif path.startswith(f"/apis/{_GROUP_VERSION}/") and path.endswith("/pods"):
                body = {"kind": "PodMetricsList", "apiVersion": _GROUP_VERSION, "metadata": {}, "items": meter.pods()}
                self._answer(200, body)
            else:
                self._answer(404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404})

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing: what is asked is not what is tested."""

    return Handler


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions") or ()
    is_ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return is_ready and "deletionTimestamp" not in pod["metadata"]
