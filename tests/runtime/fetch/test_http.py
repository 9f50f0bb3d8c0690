"""`fetch http` against a real HTTP server that misbehaves as real ones do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fetching import FUNCTION, Files, run, serving, sha256, tar
from serving import free_port

from model_runtime.errors import DownloadFailed
from model_runtime.fetch.http import Address


@pytest.fixture
def archive() -> bytes:
    return tar({"src/func_main.py": FUNCTION, "weights.bin": os.urandom(300_000)})


@pytest.fixture
def server(archive: bytes) -> Iterator[Files]:
    with serving(archive) as files:
        yield files


def test_an_archive_is_fetched_verified_and_unpacked_whole(server: Files, archive: bytes, tmp_path: Path) -> None:
    status, message = run("http", server.url, "--sha256", sha256(archive), "--into", str(tmp_path / "t"))

    assert (status, message) == (0, "")
    assert (tmp_path / "t" / "files" / "src" / "func_main.py").read_bytes() == FUNCTION
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == [".fetched", "files"]


def test_a_sha256_may_be_written_in_upper_case(server: Files, archive: bytes, tmp_path: Path) -> None:
    assert run("http", server.url, "--sha256", sha256(archive).upper(), "--into", str(tmp_path / "t"))[0] == 0


@pytest.mark.parametrize("wrong", ["", "abc", "g" * 64, "0" * 63, "0" * 65, "sha256:" + "0" * 64])
def test_what_is_no_sha256_is_refused_before_anything_is_fetched(wrong: str, server: Files, tmp_path: Path) -> None:
    assert run("http", server.url, "--sha256", wrong, "--into", str(tmp_path / "t"))[0] == 2
    assert server.paths == []


def test_a_download_that_breaks_off_goes_on_where_it_was(server: Files, archive: bytes, tmp_path: Path) -> None:
    server.cut_after = [100_000, 50_000]

    status, _ = run("http", server.url, "--sha256", sha256(archive), "--into", str(tmp_path / "t"))

    assert status == 0
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_a_server_without_ranges_is_asked_for_all_again(server: Files, archive: bytes, tmp_path: Path) -> None:
    server.cut_after, server.has_ranges = [100_000], False

    status, _ = run("http", server.url, "--sha256", sha256(archive), "--into", str(tmp_path / "t"))

    assert (status, len(server.ranges)) == (0, 2)


def test_an_answer_without_a_length_is_read_to_its_end(server: Files, archive: bytes, tmp_path: Path) -> None:
    server.has_length = False

    assert run("http", server.url, "--sha256", sha256(archive), "--into", str(tmp_path / "t"))[0] == 0


def test_a_part_of_another_file_is_fetched_anew(server: Files, archive: bytes, tmp_path: Path) -> None:
    """What an earlier run left is not what the server has: the checksum of the whole shows it."""
    target = tmp_path / "t"
    (target / ".fetching").mkdir(parents=True)
    (target / ".fetching" / "identity").write_text(f"http {sha256(archive)} ")
    (target / ".fetching" / "part").write_bytes(b"x" * 1000)

    assert run("http", server.url, "--sha256", sha256(archive), "--into", str(target)) == (0, "")
    assert server.ranges == ["bytes=1000-", None]


def test_an_answer_that_begins_elsewhere_is_not_appended(server: Files, archive: bytes, tmp_path: Path) -> None:
    server.cut_after, server.headers = [100_000], {"Content-Range": "bytes 5-9/10"}

    status, _ = run("http", server.url, "--sha256", sha256(archive), "--into", str(tmp_path / "t"))

    assert (status, server.ranges) == (0, [None, "bytes=100000-", None])


def test_a_second_run_fetches_nothing(server: Files, archive: bytes, tmp_path: Path) -> None:
    arguments = ("http", server.url, "--sha256", sha256(archive), "--into", str(tmp_path / "t"))
    run(*arguments)
    run(*arguments)

    assert len(server.ranges) == 1


def test_two_runs_at_once_share_the_target(server: Files, archive: bytes, tmp_path: Path) -> None:
    code = "from model_runtime.fetch import fetch; fetch()"
    command = [
        sys.executable,
        "-c",
        code,
        "http",
        server.url,
        "--sha256",
        sha256(archive),
        "--into",
        str(tmp_path / "t"),
    ]
    processes = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(3)]

    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert len(server.ranges) == 1


def test_other_bytes_than_meant_are_refused_and_leave_nothing(server: Files, tmp_path: Path) -> None:
    status, message = run("http", server.url, "--sha256", "0" * 64, "--into", str(tmp_path / "t"))

    assert status == 8
    assert message.startswith("ChecksumMismatch: http://127.0.0.1:")
    assert "signature=secret" not in message
    assert not (tmp_path / "t" / "files").exists()


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_what_is_not_there_is_reported_at_once(code: int, server: Files, archive: bytes, tmp_path: Path) -> None:
    server.answers = [code]

    status, message = run("http", server.url, "--sha256", sha256(archive), "--into", str(tmp_path / "t"))

    assert (status, len(server.paths)) == (8, 1)
    assert message.startswith("SourceNotFound: http://127.0.0.1:")
    assert f"{code} " in message


@pytest.mark.parametrize("code", [400, 405, 451, 501, 505])
def test_a_refusal_that_stays_is_not_asked_again(code: int, server: Files, archive: bytes, tmp_path: Path) -> None:
    server.answers = [code]

    status, message = run("http", server.url, "--sha256", sha256(archive), "--into", str(tmp_path / "t"))

    assert (status, len(server.paths)) == (8, 1)
    assert re.match(rf"DownloadFailed: http://127.0.0.1:\d+/model.tar.gz: {code} ", message)


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_server_that_is_busy_is_asked_again(code: int, server: Files, archive: bytes, tmp_path: Path) -> None:
    server.answers = [code]

    assert run("http", server.url, "--sha256", sha256(archive), "--into", str(tmp_path / "t"))[0] == 0


def test_a_server_says_how_long_to_wait(server: Files, archive: bytes, tmp_path: Path) -> None:
    server.answers, server.headers = [429], {"Retry-After": "3"}
    began = time.monotonic()

    assert run("http", server.url, "--sha256", sha256(archive), "--into", str(tmp_path / "t"))[0] == 0
    assert time.monotonic() - began >= 3


def test_the_authorization_of_the_secret_is_sent(server: Files, archive: bytes, tmp_path: Path) -> None:
    run("http", server.url, "--sha256", sha256(archive), "--into", str(tmp_path / "t"), HTTP_AUTHORIZATION="Bearer x\n")

    assert server.authorization == ["Bearer x"]


def test_an_authorization_that_is_no_header_is_refused_and_not_shown(server: Files, tmp_path: Path) -> None:
    arguments = ("http", server.url, "--sha256", "0" * 64, "--into", str(tmp_path / "t"))

    status, message = run(*arguments, HTTP_AUTHORIZATION="Bearer secret\nX: y")

    assert status == 2
    assert message.startswith("InvalidSetting: HTTP_AUTHORIZATION: expected one line")
    assert "secret" not in message


def test_user_and_password_of_the_address_are_sent_and_not_shown(server: Files, tmp_path: Path) -> None:
    address = server.origin.replace("://", "://me:p%40ss@") + "/x.tar"

    status, message = run("http", address, "--sha256", "0" * 64, "--into", str(tmp_path / "t"))

    assert server.authorization == ["Basic bWU6cEBzcw=="]
    assert (status, "p%40ss" in message, "p@ss" in message) == (8, False, False)


def test_an_authorization_is_not_sent_on_to_another_server(server: Files, archive: bytes, tmp_path: Path) -> None:
    with serving(b"") as first:
        first.answers, first.headers = [302], {"Location": server.url}
        status, _ = run(
            "http", first.url, "--sha256", sha256(archive), "--into", str(tmp_path / "t"), HTTP_AUTHORIZATION="Bearer x"
        )

    assert (status, first.authorization, server.authorization) == (0, ["Bearer x"], [None])


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_a_redirect_leads_to_the_web_only(where: str, server: Files, tmp_path: Path) -> None:
    server.answers, server.headers = [302] * 3, {"Location": where}

    status, message = run("http", server.url, "--sha256", "0" * 64, "--into", str(tmp_path / "t"))

    assert (status, message.startswith("DownloadFailed: "), len(server.paths)) == (8, True, 1), message


def test_a_circle_of_redirects_ends(server: Files, tmp_path: Path) -> None:
    server.answers, server.headers = [302] * 50, {"Location": server.url}

    status, message = run("http", server.url, "--sha256", "0" * 64, "--into", str(tmp_path / "t"))

    assert (status, "redirect" in message, len(server.paths) < 15) == (8, True, True), message


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd",
        "FILE:/etc/passwd",
        "host/x.tar.gz",
        "localhost:8080/x.tar.gz",
        "ftp://host/x",
        "s3://bucket/key",
        "http://",
        "http:///x",
        "https:x",
        "http://host:99999/x",
        "http://host:port/x",
        "http://[::1/x",
        "http://" + "a" * 70 + ".example/x",
        "",
        "-",
    ],
)
def test_an_address_that_is_none_of_the_web_is_refused(address: str, tmp_path: Path) -> None:
    status, message = run(
        "http", "--sha256", "0" * 64, "--into", str(tmp_path / "t"), "--", address, log=tmp_path / "l"
    )

    assert status == 8
    assert message.startswith("DownloadFailed: ")
    assert "expected an address that begins with http:// or https://" in message


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("modèle/x", "/mod%C3%A8le/x"),
        ("mod%C3%A8le/x", "/mod%C3%A8le/x"),
        ("a b", "/a%20b"),
        ("100%", "/100%25"),
        ("x?q=é&r=%2F", "/x?q=%C3%A9&r=%2F"),
        ("x#part", "/x"),
        ("数据", "/%E6%95%B0%E6%8D%AE"),
    ],
)
def test_an_address_may_be_written_as_in_a_browser(path: str, asked: str, tmp_path: Path) -> None:
    with serving(b"weights") as server:
        status, message = run(
            "http", f"{server.origin}/{path}", "--sha256", sha256(b"weights"), "--into", str(tmp_path / "t")
        )

    assert (status, message, server.paths) == (0, "", [asked])


def test_a_host_may_have_umlauts() -> None:
    assert Address.parse("http://bücher.example:8080/x").url == "http://xn--bcher-kva.example:8080/x"
    assert Address.parse("http://[::1]:80/x").url == "http://[::1]:80/x"
    with pytest.raises(DownloadFailed, match=r"\*\*\*\*@"):
        Address.parse("ftp://me:secret@host/x")


@pytest.mark.parametrize("path", ["../../..", "/etc", "a/../../b", "..", "a\\..\\b", "a\0b"])
def test_a_path_out_of_the_archive_is_refused_before_anything_is_fetched(
    path: str, server: Files, archive: bytes, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.txt").write_text("mine")

    status, message = run(
        "http",
        server.url,
        "--sha256",
        sha256(archive),
        "--path",
        path,
        "--into",
        str(outside / "deep" / "t"),
        log=tmp_path / "log",
    )

    assert (status, "leads out" in message, server.paths) == (8, True, [])
    assert (outside / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("last", "name"), [("weights.bin", "weights.bin"), ("%2e%2e", None), ("..", None), ("", "file")]
)
def test_a_plain_file_keeps_its_name_inside_the_target(last: str, name: str | None, tmp_path: Path) -> None:
    with serving(b"weights") as server:
        url = f"{server.origin}/a/{last}"
        status, message = run("http", url, "--sha256", sha256(b"weights"), "--into", str(tmp_path / "t"))

    assert status == (0 if name else 8), message
    if name in ("weights.bin",):
        assert (tmp_path / "t" / "files" / name).read_bytes() == b"weights"


def test_a_name_that_no_file_can_have_is_named(tmp_path: Path) -> None:
    with serving(b"weights") as server:
        url = f"{server.origin}/{'n' * 300}"
        status, message = run("http", url, "--sha256", sha256(b"weights"), "--into", str(tmp_path / "t"))

    assert (status, "n" * 300 in message, "File name too long" in message) == (8, True, True)


def test_more_bytes_than_allowed_are_not_fetched(server: Files, archive: bytes, tmp_path: Path) -> None:
    arguments = ("http", server.url, "--sha256", sha256(archive), "--into", str(tmp_path / "t"))

    for has_length in (True, False):
        server.has_length = has_length
        status, message = run(*arguments, FETCH_MAX_BYTES="1000")
        assert status == 8
        assert "more than the 1000 bytes allowed (FETCH_MAX_BYTES)" in message


@pytest.mark.parametrize("text", ["0", "-1", "many", "1e9"])
def test_a_limit_that_is_no_number_is_refused(text: str, server: Files, tmp_path: Path) -> None:
    arguments = ("http", server.url, "--sha256", "0" * 64, "--into", str(tmp_path / "t"))

    status, message = run(*arguments, FETCH_MAX_FILES=text)

    assert status == 2
    assert message == f"InvalidSetting: FETCH_MAX_FILES: expected a whole number from 1, got {text!r}"


def step(tmp_path: Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
    """Exit status, termination message and log of the step in a process of its own."""
    log = tmp_path / "log"
    log.write_text("")
    done = subprocess.run(
        [sys.executable, "-c", "from model_runtime.fetch import fetch; fetch()", *arguments],
        env={**os.environ, "TERMINATION_LOG": str(log), **variables},
        stderr=subprocess.PIPE,
        text=True,
        timeout=100,
    )
    return done.returncode, log.read_text(), done.stderr


def test_a_server_that_does_not_answer_is_a_failed_download(tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"

    status, message, log = step(
        tmp_path, "http", endpoint + "/m.zip", "--sha256", "0" * 64, "--into", str(tmp_path / "t")
    )

    assert status == 8
    assert message.startswith("DownloadFailed: http://127.0.0.1:")
    assert "broken off" in log


class Dribble(BaseHTTPRequestHandler):
    """Sends a byte now and then, for ever."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(300):
            try:
                self.wfile.write(b"x")
            except OSError:
                return
            time.sleep(0.2)

    def log_message(self, *_: object) -> None:
        pass


def test_a_fetch_has_an_end_in_time_and_shows_that_it_makes_progress(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dribble)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/x"
    began = time.monotonic()
    try:
        status, message, log = step(
            tmp_path, "http", url, "--sha256", "0" * 64, "--into", str(tmp_path / "t"), FETCH_TIMEOUT_SECONDS="5"
        )
    finally:
        server.shutdown()
        server.server_close()

    assert (status, message) == (8, "DownloadFailed: not done after 5 seconds")
    assert time.monotonic() - began < 15
    assert log.count("INFO    fetching file=") >= 1


class Proxy(BaseHTTPRequestHandler):
    """A proxy that answers all requests itself."""

    asked: list[str]

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"weights")

    def log_message(self, *_: object) -> None:
        pass


def test_a_proxy_of_the_environment_is_used_and_its_exceptions_are_kept(server: Files, tmp_path: Path) -> None:
    Proxy.asked = []
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    variables = {"http_proxy": f"http://127.0.0.1:{proxy.server_port}", "no_proxy": "127.0.0.1"}
    try:
        by_proxy = step(
            tmp_path,
            "http",
            "http://models.invalid/w",
            "--sha256",
            sha256(b"weights"),
            "--into",
            str(tmp_path / "t"),
            **variables,
        )
        direct = step(
            tmp_path, "http", server.url, "--sha256", sha256(server.content), "--into", str(tmp_path / "u"), **variables
        )
    finally:
        proxy.shutdown()
        proxy.server_close()

    assert (by_proxy[0], direct[0], Proxy.asked) == (0, 0, ["http://models.invalid/w"])
    assert len(server.paths) == 1


def test_a_fetch_needs_little_memory(tmp_path: Path) -> None:
    """400 MB are fetched, verified, unpacked and verified again by a process that may not have a quarter of that."""
    content = tar({"weights.bin": bytes(400 << 20), "src/func_main.py": FUNCTION}, mode="w")
    code = (
        "import atexit\n"
        "atexit.register(lambda: print([l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')][0]))\n"
        "from model_runtime.fetch import fetch; fetch()"
    )
    with serving(content) as server:
        url = f"{server.origin}/model.tar"
        done = subprocess.run(
            [sys.executable, "-c", code, "http", url, "--sha256", sha256(content), "--into", str(tmp_path / "t")],
            capture_output=True,
            text=True,
        )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100 << 10, f"{int(done.stdout) >> 10} MiB"
