"""The fetch step against a real HTTP server and a real S3-compatible one (moto, in an environment of its own)."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from environments import environment
from serving import free_port

from model_runtime import contract
from model_runtime.errors import DownloadFailed
from model_runtime.fetch import fetch
from model_runtime.fetch.archive import unpack

FUNCTION = b"def predict(x): return {'y': x}\n"


class Files:
    """An HTTP server of one file that breaks off, stalls or refuses as it is told."""

    def __init__(self, content: bytes) -> None:
        self.content, self.cut_after, self.answers = content, [], []  # type: ignore[var-annotated]
        self.ranges: list[str | None] = []
        self.authorization: list[str | None] = []
        files = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                files.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/model.tar.gz?signature=secret"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.ranges.append(wanted)
        self.authorization.append(request.headers.get("Authorization"))
        if self.answers:
            request.send_error(self.answers.pop(0))
            return
        start = int(wanted[6:-1]) if wanted else 0
        rest = self.content[start:]
        request.send_response(206 if wanted else 200)
        request.send_header("Content-Length", str(len(rest)))
        request.end_headers()
        request.wfile.write(rest[: self.cut_after.pop(0)] if self.cut_after else rest)


@pytest.fixture
def archive() -> bytes:
    return tar({"src/func_main.py": FUNCTION, "weights.bin": os.urandom(300_000)})


@pytest.fixture
def server(archive: bytes) -> Iterator[Files]:
    files = Files(archive)
    yield files
    files.server.shutdown()
    files.server.server_close()


def tar(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as made:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def run(*arguments: str, log: Path | None = None, **variables: str) -> tuple[int, str]:
    """Exit status and termination message of the step."""
    log = log or Path(arguments[-1]).parent / "termination-log"
    log.write_text("")
    result = CliRunner().invoke(fetch, list(arguments), env={"TERMINATION_LOG": str(log), **variables})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, log.read_text()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_an_archive_is_fetched_verified_and_unpacked_whole(server: Files, archive: bytes, tmp_path: Path) -> None:
    status, message = run("http", server.url, "--sha256", sha256(archive), "--into", str(tmp_path / "t"))

    assert (status, message) == (0, "")
    assert (tmp_path / "t" / "files" / "src" / "func_main.py").read_bytes() == FUNCTION
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == [".fetched", "files"]


def test_a_download_that_breaks_off_goes_on_where_it_was(server: Files, archive: bytes, tmp_path: Path) -> None:
    server.cut_after = [100_000, 50_000]

    status, _ = run("http", server.url, "--sha256", sha256(archive), "--into", str(tmp_path / "t"))

    assert status == 0
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_a_second_run_fetches_nothing(server: Files, archive: bytes, tmp_path: Path) -> None:
    arguments = ("http", server.url, "--sha256", sha256(archive), "--into", str(tmp_path / "t"))
    run(*arguments)
    run(*arguments)

    assert len(server.ranges) == 1


def test_other_bytes_than_meant_are_refused_and_leave_nothing(server: Files, tmp_path: Path) -> None:
    status, message = run("http", server.url, "--sha256", "0" * 64, "--into", str(tmp_path / "t"))

    assert status == 8
    assert message.startswith("ChecksumMismatch: http://127.0.0.1:")
    assert "signature=secret" not in message
    assert not (tmp_path / "t" / "files").exists()


def test_what_is_not_there_is_said_at_once(server: Files, archive: bytes, tmp_path: Path) -> None:
    server.answers = [404]

    status, message = run("http", server.url, "--sha256", sha256(archive), "--into", str(tmp_path / "t"))

    assert status == 8
    assert message.startswith("SourceNotFound: ")
    assert message.endswith("404 Not Found")


def test_a_server_that_is_busy_is_asked_again(server: Files, archive: bytes, tmp_path: Path) -> None:
    server.answers = [503]

    assert run("http", server.url, "--sha256", sha256(archive), "--into", str(tmp_path / "t"))[0] == 0


def test_the_authorization_of_the_secret_is_sent(server: Files, archive: bytes, tmp_path: Path) -> None:
    run("http", server.url, "--sha256", sha256(archive), "--into", str(tmp_path / "t"), HTTP_AUTHORIZATION="Bearer x")

    assert server.authorization == ["Bearer x"]


@pytest.mark.parametrize("name", ["../evil.py", "/etc/evil.py"])
def test_an_archive_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    content = tar({name: b"evil", "src/func_main.py": FUNCTION})
    server = Files(content)
    try:
        status, message = run("http", server.url, "--sha256", sha256(content), "--into", str(tmp_path / "t"))
    finally:
        server.server.shutdown()
        server.server.server_close()

    assert not (tmp_path / "evil.py").exists()
    assert (status, "leads out of the archive" in message) == (8, True), message


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


PIPE = tarfile.TarInfo("src/pipe")
PIPE.type = tarfile.FIFOTYPE


@pytest.mark.parametrize(
    ("members", "refusal"),
    [
        ([link("src/latest", "func_main.py")], ""),
        ([link("src/same.py", "src/func_main.py", tarfile.LNKTYPE)], ""),
        ([link("evil", "/etc")], "leads out"),
        ([link("evil", "../..")], "leads out"),
        ([link("evil.py", "../../evil.py", tarfile.LNKTYPE)], "leads out"),
        ([link("a/b/c", "."), link("a/b/evil", "c/../../..")], "leads out"),
        ([PIPE], "neither file nor folder"),
    ],
)
@pytest.mark.parametrize("has_filter", [True, False], ids=["Python's checks besides", "ours alone"])
def test_links_in_an_archive_stay_inside_and_nothing_else_is_unpacked(
    members: list[tarfile.TarInfo], refusal: str, has_filter: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_filter:
        if sys.version_info >= (3, 12):
            pytest.skip("this Python always has its own")
        monkeypatch.setattr("model_runtime.fetch.archive._FILTER", {})  # as on Debian 12's 3.11.2
    file = tmp_path / "a.tar"
    with tarfile.open(file, "w") as made:
        member = tarfile.TarInfo("src/func_main.py")
        member.size = len(FUNCTION)
        made.addfile(member, io.BytesIO(FUNCTION))
        for member in members:
            made.addfile(member)

    if refusal:
        with pytest.raises(DownloadFailed, match=refusal):
            unpack(file, file.name, tmp_path / "t")
        assert not (tmp_path / "t").exists()
    else:
        unpack(file, file.name, tmp_path / "t")
        assert (tmp_path / "t" / members[0].name).read_bytes() == FUNCTION


def test_a_contract_of_the_source_is_taken_or_compared(tmp_path: Path) -> None:
    promise = {
        "name": "predict",
        "inputs": {"x": {"shape": [-1], "type": "double"}},
        "outputs": {"y": {"shape": [-1], "type": "double"}},
    }
    other = {**promise, "outputs": {"y": {"shape": [-1], "type": "int64"}}}
    source, same, different = tmp_path / "source", tmp_path / "same", tmp_path / "different"
    source.write_bytes(contract.write(contract.parse(promise), "v3"))
    same.write_bytes(contract.write(contract.parse(promise), "v2"))
    different.write_bytes(contract.write(contract.parse(other)))
    log = tmp_path / "log"

    assert run("contract", str(source), "--into", str(tmp_path), log=log) == (0, "")
    assert (tmp_path / "contract.protobin").read_bytes() == source.read_bytes()
    assert run("contract", str(source), "--expect", str(same), log=log) == (0, "")
    assert run("contract", str(source), "--expect", str(different), log=log)[1].startswith("ContractMismatch: ")
    assert run("contract", str(tmp_path / "none"), "--into", str(tmp_path), log=log)[1].startswith("ContractMissing: ")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """moto's S3 server, in a process and an environment of its own."""
    port = free_port()
    python = environment("3.11", "moto[s3,server]==5.2.5")
    command = [str(python), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    endpoint = f"http://127.0.0.1:{port}"
    try:
        for _ in range(150):
            try:
                urllib.request.urlopen(endpoint + "/moto-api/").close()
                break
            except OSError:
                time.sleep(0.2)
        yield endpoint
    finally:
        process.terminate()
        process.wait(10)


CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


SIGNED = "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request"


def put(endpoint: str, key: str, content: bytes) -> None:
    headers = {"Authorization": SIGNED, "Content-Type": "application/octet-stream"}
    for path, data in (("/models", b""), (f"/models/{key}", content)):
        request = urllib.request.Request(endpoint + path, data=data, method="PUT", headers=headers)
        try:
            urllib.request.urlopen(request).close()
        except urllib.error.HTTPError as error:
            assert error.code == 409


def test_the_objects_below_a_prefix_become_files_checked_by_their_listing(store: str, tmp_path: Path) -> None:
    big = os.urandom(9 << 20)  # more than one range
    put(store, "digits/3/src/func_main.py", FUNCTION)
    put(store, "digits/3/weights.bin", big)
    listing = f"{sha256(FUNCTION)}  src/func_main.py\n{sha256(big)}  weights.bin\n".encode()
    arguments = ("s3", "models", "digits/3/", "--endpoint", store, "--manifest-sha256")

    status, message = run(*arguments, sha256(listing), "--into", str(tmp_path / "t"), **CREDENTIALS)
    refused = run(*arguments, "0" * 64, "--into", str(tmp_path / "u"), **CREDENTIALS)

    assert (status, message) == (0, "")
    assert (tmp_path / "t" / "files" / "weights.bin").read_bytes() == big
    assert (tmp_path / "t" / "files" / "src" / "func_main.py").read_bytes() == FUNCTION
    assert refused[1].startswith("ChecksumMismatch: ")
    assert not (tmp_path / "u" / "files").exists()


def test_a_prefix_without_objects_and_a_bucket_that_is_not_there_are_told_apart(store: str, tmp_path: Path) -> None:
    put(store, "other", b"x")

    empty = run("s3", "models", "nothing/", "--endpoint", store, "--into", str(tmp_path / "t"), **CREDENTIALS)
    absent = run("s3", "absent", "x/", "--endpoint", store, "--into", str(tmp_path / "t"), **CREDENTIALS)

    assert empty[1].startswith("SourceEmpty: ")
    assert absent[1].startswith("SourceNotFound: ")


def test_a_store_that_does_not_answer_is_a_failed_download(tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    code = "from model_runtime.fetch import fetch; fetch()"
    log = tmp_path / "log"
    log.write_text("")
    variables = {**os.environ, "TERMINATION_LOG": str(log), **CREDENTIALS}

    with subprocess.Popen(
        [sys.executable, "-c", code, "http", endpoint + "/m.zip", "--sha256", "0" * 64, "--into", str(tmp_path / "t")],
        env=variables,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        _, errors = process.communicate(timeout=100)

    assert process.returncode == 8
    assert log.read_text().startswith("DownloadFailed: http://127.0.0.1:")
    assert "broken off" in errors
