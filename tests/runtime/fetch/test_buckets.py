"""`fetch s3 | gcs | azure` against real servers: moto's S3, and small ones of Google's and Azure's protocols."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from environments import environment
from fetching import FUNCTION, run, sha256, tar
from objects import Objects, storing
from serving import free_port

from cluster.certificates import Authority


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


# Every cloud --------------------------------------------------------------------------------------------------------

GOOGLE_KEY = json.dumps(
    {"client_email": "", "private_key": "", "private_key_id": "", "disable_oauth": True, "gcs_base_url": ""}
)
CLOUDS: dict[str, dict[str, str]] = {
    "s3": CREDENTIALS,
    "gcs": {"GCE_METADATA_HOST": "", "GCE_METADATA_IP": "", "GCE_METADATA_ROOT": ""},
    "azure": {
        "AZURE_STORAGE_ACCOUNT_NAME": "me",
        "AZURE_STORAGE_ACCOUNT_KEY": base64.b64encode(b"k" * 32).decode() + "\n",
    },
}


def of(cloud: str, store: Objects, prefix: str, into: Path, *options: str, **variables: str) -> tuple[int, str]:
    own = {name: value or store.host for name, value in CLOUDS[cloud].items()}
    place = ("--endpoint", store.endpoint, "--into", str(into))
    return run(cloud, "models", prefix, *options, *place, log=into.parent / "log", **{**own, **variables})


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_folder_of_any_cloud_becomes_files(cloud: str, tmp_path: Path) -> None:
    big = os.urandom(9 << 20)
    objects = {"d/3/src/func_main.py": FUNCTION, "d/3/w.bin": big, "d/3/empty": b"", "d/30/other": b"x", "é/ü": b"x"}
    with storing(objects) as store:
        assert of(cloud, store, "d/3/", tmp_path / "t") == (0, "")
        assert of(cloud, store, "d/3", tmp_path / "u") == (0, "")
        assert of(cloud, store, "/d/3/", tmp_path / "v") == (0, "")
        assert of(cloud, store, "é", tmp_path / "w") == (0, "")
        sent = store.authorization

    expected = {"src/func_main.py": FUNCTION, "w.bin": big, "empty": b""}
    for name in ("t", "u", "v"):
        assert tree(tmp_path / name / "files") == expected
    assert tree(tmp_path / "w" / "files") == {"ü": b"x"}
    assert None not in sent


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_key_of_one_archive_is_unpacked(cloud: str, tmp_path: Path) -> None:
    archive = tar({"src/func_main.py": FUNCTION})
    with storing({"models/digits.tar.gz": archive, "models/digits.tar.gz.md5": b"x"}) as store:
        good = of(cloud, store, "models/digits.tar.gz", tmp_path / "t", "--manifest-sha256", sha256(archive).upper())
        bad = of(cloud, store, "models/digits.tar.gz", tmp_path / "u", "--manifest-sha256", "0" * 64)

    assert good == (0, "")
    assert tree(tmp_path / "t" / "files") == {"src/func_main.py": FUNCTION}
    assert bad[0] == 8
    assert bad[1].startswith("ChecksumMismatch: ")


@pytest.mark.parametrize("cloud", CLOUDS)
def test_markers_of_folders_are_none_of_the_files(cloud: str, tmp_path: Path) -> None:
    """Consoles make them: empty objects whose keys end in a slash, or are the folder's name."""
    objects = {
        "m/": b"",
        "m/src/": b"",
        "m/src": b"",
        "m/src/func_main.py": FUNCTION,
        "m/nothing/": b"",
        "m/empty": b"",
    }
    with storing(objects) as store:
        assert of(cloud, store, "m/", tmp_path / "t") == (0, "")

    assert tree(tmp_path / "t" / "files") == {"src/func_main.py": FUNCTION, "empty": b""}
    assert (tmp_path / "t" / "files" / "nothing").is_dir()


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize(
    ("key", "text"),
    [("p//x", "p//x"), ("p/../../x", ".."), ("p/" + "n" * 300, "File name too long"), ("p/a/b", "p/a")],
)
def test_keys_that_no_file_can_have_are_named(cloud: str, key: str, text: str, tmp_path: Path) -> None:
    with storing({key: b"x", "p/a": b"y"}) as store:
        status, message = of(cloud, store, "p/", tmp_path / "t")

    assert (status, message.startswith("DownloadFailed: "), text in message) == (8, True, True), message
    assert not (tmp_path / "t" / "files").exists()


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("prefix", ["plain//", "a//b", "..", "a/../b", "x" * 2000, "?", "\x01"])
def test_a_prefix_that_is_none_has_its_word(cloud: str, prefix: str, tmp_path: Path) -> None:
    with storing({"other": b"x"}) as store:
        status, message = of(cloud, store, prefix, tmp_path / "t")

    assert (status, message.partition(":")[0] in ("SourceEmpty", "DownloadFailed", "SourceNotFound")) == (8, True), (
        message
    )


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize(
    "endpoint", ["localhost:9000", "store", "ftp://store", "file:///tmp", "http://", "http://[::1"]
)
def test_an_endpoint_that_is_none_is_refused(cloud: str, endpoint: str, tmp_path: Path) -> None:
    status, message = run(
        cloud, "models", "p/", "--endpoint", endpoint, "--into", str(tmp_path / "t"), **{**CREDENTIALS, **AZURE_ACCOUNT}
    )

    assert (status, message.startswith("DownloadFailed: ")) == (8, True), message


@pytest.mark.parametrize("cloud", CLOUDS)
def test_what_may_pass_is_tried_again_and_what_stays_is_not(cloud: str, tmp_path: Path) -> None:
    with storing({"p/x": b"x"}) as store:
        store.faults = [503, 500]
        assert of(cloud, store, "p/", tmp_path / "t") == (0, "")
        store.requests.clear()
        store.faults = [400] * 100
        began = time.monotonic()
        status, message = of(cloud, store, "p/", tmp_path / "u")
        asked = len(store.requests)

    assert (status, "400" in message) == (8, True), message
    assert (asked < 5, time.monotonic() - began < 5) == (True, True)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_anonymous_access_sends_no_credentials(cloud: str, tmp_path: Path) -> None:
    with storing({"p/x": b"x"}) as store:
        assert of(cloud, store, "p/", tmp_path / "t", "--anonymous") == (0, "")
        assert store.authorization == {None}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_limits_hold_before_anything_is_fetched(cloud: str, tmp_path: Path) -> None:
    with storing({f"p/{number}": b"x" * 100 for number in range(20)}) as store:
        files = of(cloud, store, "p/", tmp_path / "t", FETCH_MAX_FILES="10")
        size = of(cloud, store, "p/", tmp_path / "u", FETCH_MAX_BYTES="1000")

    assert (files[0], "more than the 10 objects allowed (FETCH_MAX_FILES)" in files[1]) == (8, True)
    assert (size[0], "2000 bytes, more than the 1000 allowed (FETCH_MAX_BYTES)" in size[1]) == (8, True)


# Credentials --------------------------------------------------------------------------------------------------------


def signed_by(store: Objects) -> set[str]:
    """The access keys, or tokens, that requests were signed with."""
    return {str(each).split("Credential=")[-1].split("/")[0].split()[-1] for each in store.authorization}


AZURE_ACCOUNT = CLOUDS["azure"]


def test_the_role_of_an_instance_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with storing({"p/x": b"x"}) as store:
        status = _of_role(store, tmp_path, monkeypatch, AWS_METADATA_ENDPOINT=store.endpoint)
        assert (status, signed_by(store)) == ((0, ""), {"lent"})


def test_the_identity_of_a_pod_in_eks_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("pod-token")
    with storing({"p/x": b"x"}) as store:
        status = _of_role(
            store,
            tmp_path,
            monkeypatch,
            AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{store.endpoint}/v1/credentials",
            AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(tmp_path / "token"),
        )
        assert (status, signed_by(store)) == ((0, ""), {"lent"})


def test_a_web_identity_is_exchanged_for_a_role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """IRSA: the variables that EKS puts into a pod whose service account names a role."""
    (tmp_path / "token").write_text("web-token")
    authority = Authority(tmp_path / "authority")
    with storing({"p/x": b"x"}, authority.server()) as store:
        status = _of_role(
            store,
            tmp_path,
            monkeypatch,
            AWS_CA_BUNDLE=str(authority.certificate),
            AWS_WEB_IDENTITY_TOKEN_FILE=str(tmp_path / "token"),
            AWS_ROLE_ARN="arn:aws:iam::1:role/models",
            AWS_ENDPOINT_URL_STS=f"{store.endpoint}/sts",
            AWS_REGION="us-east-1",
        )
        assert (status, signed_by(store)) == ((0, ""), {"assumed"})
        assert any("AssumeRoleWithWebIdentity" in each for each in store.requests)


def _of_role(store: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **variables: str) -> tuple[int, str]:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    place = ("--endpoint", store.endpoint, "--into", str(tmp_path / "t"))
    return run("s3", "models", "p/", *place, log=tmp_path / "log", **variables)


@pytest.mark.parametrize(
    "variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "PIP_CERT"]
)
@pytest.mark.parametrize("kind", ["s3", "http"])
def test_certificates_of_the_environment_are_trusted(kind: str, variable: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    with storing({"p/x": b"x"}, authority.server()) as store:
        into = ("--into", str(tmp_path / "t"))
        s3 = ("s3", "models", "p/", "--endpoint", store.endpoint, *into)
        http = ("http", f"{store.endpoint}/models/p/x", "--sha256", sha256(b"x"), *into)
        arguments = s3 if kind == "s3" else http
        missing = run(*arguments, **CREDENTIALS, **{variable: "/nowhere"})
        refused = run(*arguments, **CREDENTIALS)
        trusted = run(*arguments, **CREDENTIALS, **{variable: str(authority.certificate)})

    assert (refused[0], "certificate" in refused[1].lower()) == (8, True), refused
    assert trusted == (0, "")
    assert missing == (2, f"InvalidSetting: {variable}: expected a file of certificates (PEM), got '/nowhere'")


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY"])
def test_a_proxy_of_the_environment_is_used_and_its_exceptions_are_kept(variable: str, tmp_path: Path) -> None:
    with storing({"p/x": b"x"}) as proxy, storing({"p/x": b"y"}) as direct:
        variables = {**CREDENTIALS, variable: proxy.endpoint, "no_proxy": "127.0.0.1"}
        far = ("s3", "models", "p/", "--endpoint", "http://store.invalid", "--into", str(tmp_path / "t"))
        near = ("s3", "models", "p/", "--endpoint", direct.endpoint, "--into", str(tmp_path / "u"))
        assert run(*far, **variables) == (0, "")
        assert all("http://store.invalid/" in request for request in proxy.requests)
        assert run(*near, **variables) == (0, "")

    assert tree(tmp_path / "t" / "files") == {"x": b"x"}
    assert tree(tmp_path / "u" / "files") == {"x": b"y"}


def test_the_workload_identity_of_azure_is_used(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("azure-token")
    with storing({"p/x": b"x"}) as store:
        status = run(
            "azure",
            "models",
            "p/",
            *("--account", "me", "--endpoint", store.endpoint, "--into", str(tmp_path / "t")),
            AZURE_FEDERATED_TOKEN_FILE=str(tmp_path / "token"),
            AZURE_CLIENT_ID="client",
            AZURE_TENANT_ID="tenant",
            AZURE_AUTHORITY_HOST=store.endpoint,
        )
        assert (status, signed_by(store)) == ((0, ""), {"lent"})


def test_a_shared_access_signature_of_azure_is_sent_and_not_shown(tmp_path: Path) -> None:
    with storing({"p/x": b"x"}) as store:
        arguments = (
            "azure",
            "models",
            "p/",
            "--account",
            "me",
            "--endpoint",
            store.endpoint,
            "--into",
            str(tmp_path / "t"),
        )
        token = {"AZURE_STORAGE_SAS_TOKEN": "?sv=2024&sig=topsecret"}
        assert run(*arguments, **token) == (0, "")
        assert store.authorization == {"topsecret"}
        store.faults = [400] * 10
        status, message = run(*arguments, **token)

    assert (status, "topsecret" in message) == (8, False)


def test_the_identity_of_a_pod_in_google_s_cloud_is_used(tmp_path: Path) -> None:
    with storing({"p/x": b"x"}) as store:
        assert of("gcs", store, "p/", tmp_path / "t") == (0, "")
        assert signed_by(store) == {"lent"}


def test_without_credentials_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with storing({"p/x": b"x"}) as store:
        nobody = f"http://127.0.0.1:{free_port()}"
        status, message = _of_role(store, tmp_path, monkeypatch, AWS_METADATA_ENDPOINT=nobody)

    assert status == 8
    assert "Give credentials or a role, or ask for anonymous access" in message


def test_a_key_of_google_that_is_none_is_not_shown(tmp_path: Path) -> None:
    with storing({"p/x": b"x"}) as store:
        status, message = of(
            "gcs", store, "p/", tmp_path / "t", GOOGLE_SERVICE_ACCOUNT_KEY='{"private_key": "topsecret'
        )

    assert (status, "topsecret" in message) == (8, False), message


def test_large_objects_need_little_memory(tmp_path: Path) -> None:
    code = (
        "import atexit\n"
        "atexit.register(lambda: print([l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')][0]))\n"
        "from model_runtime.fetch import fetch; fetch()"
    )
    weights = bytes(400 << 20)
    listing = f"{sha256(weights)}  weights.bin\n".encode()
    with storing({"p/weights.bin": weights}) as store:
        arguments = ["s3", "models", "p/", "--endpoint", store.endpoint, "--manifest-sha256", sha256(listing)]
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments, "--into", str(tmp_path / "t")],
            capture_output=True,
            text=True,
            env={**os.environ, **CREDENTIALS},
        )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 160 << 10, f"{int(done.stdout) >> 10} MiB"
