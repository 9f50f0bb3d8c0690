"""The API server as its administrator meets it over HTTP: what kubectl does, without a new process for each question."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from cluster.controlplane import ControlPlane

MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"

_PLACES = {
    "api/v1": ("configmaps", "endpoints", "events", "pods", "resourcequotas", "services"),
    "apis/apps/v1": ("deployments", "replicasets"),
    "apis/policy/v1": ("poddisruptionbudgets",),
    "apis/autoscaling/v2": ("horizontalpodautoscalers",),
    "apis/networking.k8s.io/v1": ("networkpolicies",),
    "apis/coordination.k8s.io/v1": ("leases",),
    "apis/discovery.k8s.io/v1": ("endpointslices",),
    "apis/runtime.hydrosphere.io/v1alpha1": ("modelruntimes",),
}
_PLACE_OF = {plural: place for place, plurals in _PLACES.items() for plural in plurals}


class Denied(Exception):
    """The API server says no: its status and its words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


def administrator(plane: ControlPlane) -> ssl.SSLContext:
    """The control plane's own certificate of an administrator."""
    pki = plane.folder / "pki"
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    return context


class Kube:
    """One namespace of one API server."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._server, self._context, self.namespace = plane.server, administrator(plane), namespace

    def path(self, kind: str, *more: str) -> str:
        """`/apis/apps/v1/namespaces/x/deployments/…` for "deployments", "deployment" or "Deployment"."""
        plural = plural_of(kind)
        return "/".join(("", _PLACE_OF[plural], "namespaces", self.namespace, plural, *more))

    def call(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", **params: str
    ) -> Any:
        """The answer's JSON. Raises Denied."""
        query = f"?{urllib.parse.urlencode(params)}" if params else ""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._server + path + query, data, {"Content-Type": content_type}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=20, context=self._context) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode(errors="replace")
            raise Denied(error.code, json.loads(text).get("message", text) if text.startswith("{") else text) from None

    def apply(self, item: dict[str, Any]) -> None:
        """Server-side, by a person who insists."""
        path = self.path(item["kind"], item["metadata"]["name"])
        self.call("PATCH", path, item, APPLY, fieldManager="person", force="true", fieldValidation="Strict")


def is_known(kind: str) -> bool:
    return plural_of(kind) in _PLACE_OF


def plural_of(kind: str) -> str:
    name = {"mr": "modelruntimes"}.get(kind, kind.lower())
    return name if name in _PLACE_OF else f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"
