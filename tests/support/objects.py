"""An object store on loopback that can be read over S3's, Google's and Azure's protocol, and the services that lend credentials.

moto is the real S3-compatible server of the tests. This one exists for what moto cannot do: other clouds, keys that break rules,
and showing which credentials were sent.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

_TIME = "2026-01-01T00:00:00.000Z"
_STAMP = "Thu, 01 Jan 2026 00:00:00 GMT"
_LATER = "2036-01-01T00:00:00Z"


class Objects:
    """Objects by key, in whatever bucket or container is asked for. `faults` are statuses of the next answers."""

    def __init__(self, objects: dict[str, bytes], tls: tuple[Path, Path] | None = None) -> None:
        self.objects, self._scheme = objects, "https" if tls else "http"
        self.faults: list[int] = []
        self.requests: list[str] = []
        self.authorization: set[str | None] = set()
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                store.answer(self)

            do_HEAD = do_PUT = do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"

    @property
    def endpoint(self) -> str:
        return f"{self._scheme}://{self.host}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        request.rfile.read(int(request.headers.get("Content-Length") or 0))
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.requests.append(f"{request.command} {request.path}")
        if lent := self._credentials(request.command, parts.path):
            return _send(request, 200, lent)
        self.authorization.add(request.headers.get("Authorization") or query.get("sig"))
        if self.faults:
            return _send(request, self.faults.pop(0), b"")
        key = unquote(parts.path).removeprefix("/").partition("/")[2]
        if "list-type" in query:
            return _send(request, 200, self._list_s3(query.get("prefix", "")))
        if query.get("comp") == "list":
            return _send(request, 200, self._list_azure(query.get("prefix", "")))
        return self._object(request, key)

    def _object(self, request: BaseHTTPRequestHandler, key: str) -> None:
        content = self.objects.get(key)
        if content is None:
            return _send(request, 404, b"<Error><Code>NoSuchKey</Code></Error>")
        if (wanted := request.headers.get("If-Match")) and wanted != _tag(content):
            return _send(request, 412, b"")
        given = request.headers.get("Range") or request.headers.get("x-ms-range")
        if given is None:
            return _send(request, 200, content, {"ETag": _tag(content)})
        first, last = (int(number) for number in given.removeprefix("bytes=").split("-"))
        piece = content[first : last + 1]
        where = {"Content-Range": f"bytes {first}-{first + len(piece) - 1}/{len(content)}", "ETag": _tag(content)}
        return _send(request, 206, piece, where)

    def _list_s3(self, prefix: str) -> bytes:
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_TIME}</LastModified><ETag>{_tag(content)}</ETag>"
            f"<Size>{len(content)}</Size></Contents>"
            for key, content in sorted(self.objects.items())
            if key.startswith(prefix)
        )
        return f"<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode()

    def _list_azure(self, prefix: str) -> bytes:
        rows = "".join(
            f"<Blob><Name>{escape(key)}</Name><Properties><Last-Modified>{_STAMP}</Last-Modified>"
            f"<Content-Length>{len(content)}</Content-Length><Content-Type>x</Content-Type><Etag>{_tag(content)}</Etag>"
            "</Properties></Blob>"
            for key, content in sorted(self.objects.items())
            if key.startswith(prefix)
        )
        return f"<EnumerationResults><Blobs>{rows}</Blobs><NextMarker /></EnumerationResults>".encode()

    def _credentials(self, method: str, path: str) -> bytes | None:
        """What the clouds' own services of identity lend, under their paths."""
        aws = {"AccessKeyId": "lent", "SecretAccessKey": "s", "Token": "t", "Expiration": _LATER, "Code": "Success"}
        if path == "/latest/api/token":
            return b"imds-token"
        if path.rstrip("/") == "/latest/meta-data/iam/security-credentials":
            return b"role"
        if path in ("/latest/meta-data/iam/security-credentials/role", "/v1/credentials"):
            return json.dumps(aws).encode()
        if path.startswith("/sts") and method == "POST":
            return (
                "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
                f"<AccessKeyId>assumed</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
                f"<Expiration>{_LATER}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>"
                "</AssumeRoleWithWebIdentityResponse>"
            ).encode()
        if path.startswith("/computeMetadata/") or path.endswith("/oauth2/v2.0/token"):
            return json.dumps({"access_token": "lent", "expires_in": 3600, "token_type": "Bearer"}).encode()
        return None


@cache
def _tag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def _send(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    request.send_response(status)
    for name, value in {"Last-Modified": _STAMP, "Content-Length": str(len(body)), **(headers or {})}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)


@contextmanager
def storing(objects: dict[str, bytes], tls: tuple[Path, Path] | None = None) -> Iterator[Objects]:
    store = Objects(objects, tls)
    try:
        yield store
    finally:
        store.server.shutdown()
        store.server.server_close()
