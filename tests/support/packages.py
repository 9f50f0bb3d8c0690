"""Python packages made by the tests: wheels, source folders that build themselves, and an index with a password."""

from __future__ import annotations

import base64
import hashlib
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# A build backend within the package: nothing is downloaded to build it. It writes beside its sources, as setuptools does.
_BACKEND = """
import base64, hashlib, os, zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    open("written-by-the-build", "w").close()
    name = "{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as made:
        made.writestr("{name}.py", open("{name}.py").read())
        made.writestr("{name}-{version}.dist-info/METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        made.writestr("{name}-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        made.writestr("{name}-{version}.dist-info/RECORD", "")
    return name

build_editable = None
"""
_PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def wheel(folder: Path, name: str, version: str = "1.0", value: object = None, needs: tuple[str, ...] = ()) -> Path:
    """A wheel of one module with `VALUE`."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    contents = {
        f"{name}.py": f"VALUE = {value if value is not None else version!r}\n",
        f"{info}/METADATA": "\n".join(
            [
                "Metadata-Version: 2.1",
                f"Name: {name}",
                f"Version: {version}",
                *(f"Requires-Dist: {each}" for each in needs),
                "",
            ]
        ),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{path},sha256={_digest(text.encode())},{len(text.encode())}\n" for path, text in contents.items()
    )
    with zipfile.ZipFile(file, "w") as made:
        for path, text in {**contents, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            made.writestr(path, text)
    return file


def source(folder: Path, name: str, version: str = "1.0") -> Path:
    """A package's source folder, of one module."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(f'{_PROJECT}[project]\nname = "{name}"\nversion = "{version}"\n')
    (folder / "backend.py").write_text(_BACKEND.format(name=name, version=version))
    (folder / f"{name}.py").write_text(f"VALUE = {version!r}\n")
    return folder


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


class Index:
    """A package index of a folder of wheels; with `login` ("user:password") it asks for it."""

    def __init__(self, folder: Path, login: str | None) -> None:
        self.paths: list[str] = []
        index = self
        expected = f"Basic {base64.b64encode(login.encode()).decode()}" if login else None

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.paths.append(self.path)
                if expected and self.headers.get("Authorization") != expected:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="x"')
                    self.end_headers()
                    return
                name = self.path.split("?")[0].rstrip("/").rpartition("/")[2]
                file = folder / name
                found = sorted(path.name for path in folder.glob(f"{name.replace('-', '_')}-*"))
                body = (
                    file.read_bytes()
                    if file.is_file()
                    else "".join(f'<a href="/{each}">{each}</a>' for each in found).encode()
                )
                self.send_response(200 if file.is_file() or found else 404)
                self.send_header("Content-Type", "application/octet-stream" if file.is_file() else "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.host = f"127.0.0.1:{self.server.server_port}"


@contextmanager
def indexing(folder: Path, login: str | None = None) -> Iterator[Index]:
    index = Index(folder, login)
    try:
        yield index
    finally:
        index.server.shutdown()
        index.server.server_close()
