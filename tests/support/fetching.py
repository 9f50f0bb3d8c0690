"""What the tests of the fetch step share: a web server that fails as it is told, archives made here, and the step itself."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from click.testing import CliRunner

from model_runtime.fetch import fetch

FUNCTION = b"def predict(x): return {'y': x}\n"


class Files:
    """An HTTP server of one file that breaks off, stalls or refuses as it is told."""

    def __init__(self, content: bytes) -> None:
        self.content, self.cut_after, self.answers = content, [], []  # type: ignore[var-annotated]
        self.has_ranges, self.has_length = True, True
        self.headers: dict[str, str] = {}
        self.paths: list[str] = []
        self.ranges: list[str | None] = []
        self.authorization: list[str | None] = []
        files = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                files.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/model.tar.gz?signature=secret"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range") if self.has_ranges else None
        self.paths.append(request.path)
        self.ranges.append(request.headers.get("Range"))
        self.authorization.append(request.headers.get("Authorization"))
        status = self.answers.pop(0) if self.answers else 206 if wanted else 200
        if status not in (200, 206):
            request.send_response(status)
            self._send_headers(request)
            request.end_headers()
            return
        start = int(wanted[6:-1]) if wanted else 0
        rest = self.content[start:]
        request.send_response(status)
        if self.has_length:
            request.send_header("Content-Length", str(len(rest)))
        self._send_headers(request)
        request.end_headers()
        request.wfile.write(rest[: self.cut_after.pop(0)] if self.cut_after else rest)

    def _send_headers(self, request: BaseHTTPRequestHandler) -> None:
        for name, value in self.headers.items():
            request.send_header(name, value)


@contextmanager
def serving(content: bytes) -> Iterator[Files]:
    files = Files(content)
    try:
        yield files
    finally:
        files.server.shutdown()
        files.server.server_close()


def tar(files: dict[str, bytes], mode: str = "w:gz", more: Iterable[tarfile.TarInfo] = ()) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as made:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
        for member in more:
            made.addfile(member)
    return stream.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def run(*arguments: str, log: Path | None = None, **variables: str) -> tuple[int, str]:
    """Exit status and termination message of the step."""
    log = log or Path(arguments[-1]).parent / "termination-log"
    log.write_text("")
    result = CliRunner().invoke(fetch, list(arguments), env={"TERMINATION_LOG": str(log), **variables})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result.exit_code, log.read_text()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
