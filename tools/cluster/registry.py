"""An OCI registry on loopback, over its HTTP interface: what the image builders cannot say or do themselves."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from typing import Any

# What buildah writes of the build itself: names of containers that no longer are, and of layers in its own store.
_OF_THE_BUILD = ("container", "container_config", "parent")
_MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
)


class Repository:
    """One repository of a registry."""

    def __init__(self, registry: str, path: str) -> None:
        self._url = f"http://{registry}/v2/{path}"

    def manifest(self, reference: str) -> dict[str, Any]:
        """The manifest of a tag or digest."""
        return _object(self._ask("GET", f"/manifests/{reference}", accept=True))

    def configuration(self, reference: str) -> dict[str, Any]:
        """The configuration of a tag's or digest's image."""
        return _object(self._ask("GET", f"/blobs/{self.manifest(reference)['config']['digest']}"))

    def settle(self, tag: str) -> str:
        """Takes what is left of the build out of a tag's configuration: the same source is the same image. Returns its digest."""
        manifest, config = self.manifest(tag), self.configuration(tag)
        data = _json(_settled(config))
        manifest["config"] = {**manifest["config"], "digest": self._upload(data), "size": len(data)}
        whole = _json(manifest)
        self._ask("PUT", f"/manifests/{tag}", whole, manifest["mediaType"])
        return _digest(whole)

    def _upload(self, blob: bytes) -> str:
        request = urllib.request.Request(f"{self._url}/blobs/uploads/", method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            place = answer.headers["Location"]
        join = "&" if "?" in place else "?"
        put = urllib.request.Request(f"{place}{join}digest={_digest(blob)}", blob, method="PUT")
        put.add_header("Content-Type", "application/octet-stream")
        with urllib.request.urlopen(put, timeout=30):
            return _digest(blob)

    def _ask(self, method: str, path: str, data: bytes | None = None, kind: str = "", *, accept: bool = False) -> bytes:
        request = urllib.request.Request(self._url + path, data, method=method)
        if kind:
            request.add_header("Content-Type", kind)
        if accept:
            request.add_header("Accept", ", ".join(_MANIFESTS))
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())


def _settled(config: dict[str, Any]) -> dict[str, Any]:
    settled = {key: value for key, value in config.items() if key not in _OF_THE_BUILD}
    settled["config"] = {**config["config"], "Hostname": "", "Image": ""}
    steps = [{key: value for key, value in step.items() if key != "comment"} for step in config.get("history", [])]
    return {**settled, "history": steps}


def _object(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(data)
    return found


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
