"""TLS and mutual TLS: who gets in, certificates that are renewed, and health for probes that speak none."""

from __future__ import annotations

import itertools
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from authorities import Authority
from cryptography import x509
from serving import Program, free_port, model_directory, wait_health

from model_runtime import RuntimeManager, tensors
from model_runtime import client as clients
from model_runtime.client import Client
from model_runtime.errors import PortUnavailable
from model_runtime.settings import Settings

X = {"x": tensors.tensor(np.array([1.0]))}
SERVING = 1


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def secure(tmp_path: Path, **files: Path) -> RuntimeManager:
    return RuntimeManager(model_directory(tmp_path / "model"), 0, settings=Settings(**files))


@pytest.mark.usefixtures("undo_model_loading")
def test_a_certificate_turns_tls_on(tmp_path: Path, authority: Authority) -> None:
    cert, key = authority.issue("server")
    with secure(tmp_path, tls_cert_file=cert, tls_key_file=key) as runtime:
        runtime.wait_loaded(10)
        with Client(f"localhost:{runtime.port}", credentials=clients.credentials(authority.ca, None, None)) as client:
            assert client.predict(X)["y"].tolist() == [1.0]
        with Client(f"localhost:{runtime.port}", timeout=2) as plain, pytest.raises(grpc.RpcError):
            plain.predict(X)


@pytest.mark.usefixtures("undo_model_loading")
def test_mutual_tls_lets_in_only_those_whom_the_authority_knows(tmp_path: Path, authority: Authority) -> None:
    cert, key = authority.issue("server")
    own_cert, own_key = authority.issue("client")
    with secure(tmp_path, tls_cert_file=cert, tls_key_file=key, tls_client_ca_file=authority.ca) as runtime:
        runtime.wait_loaded(10)
        known, nobody = (clients.credentials(authority.ca, *pair) for pair in ((own_cert, own_key), (None, None)))
        with Client(f"localhost:{runtime.port}", credentials=known) as client:
            assert client.predict(X)["y"].tolist() == [1.0]
        with (
            Client(f"localhost:{runtime.port}", credentials=nobody, timeout=2) as stranger,
            pytest.raises(grpc.RpcError),
        ):
            stranger.predict(X)


@pytest.mark.usefixtures("undo_model_loading")
def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path, authority: Authority) -> None:
    cert, key = authority.issue("server", serial=1001)
    with secure(tmp_path, tls_cert_file=cert, tls_key_file=key) as runtime:
        runtime.wait_loaded(10)
        assert served_serial(runtime.port, authority.ca) == 1001
        time.sleep(0.01)
        authority.issue("server", serial=1002)
        assert served_serial(runtime.port, authority.ca) == 1002
        cert.write_text("half a certifi")
        assert served_serial(runtime.port, authority.ca) == 1002


def served_serial(port: int, ca: Path) -> int:
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("localhost", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"").serial_number


@pytest.mark.parametrize("broken", ["cert", "key", "other key"])
def test_files_that_are_no_pair_are_refused_at_the_start(tmp_path: Path, authority: Authority, broken: str) -> None:
    cert, key = authority.issue("server")
    if broken == "other key":
        key = authority.issue("other")[1]
    else:
        (cert if broken == "cert" else key).write_text("not PEM")

    with pytest.raises(Exception, match="expected a certificate and its key"):
        secure(tmp_path, tls_cert_file=cert, tls_key_file=key).start()


def test_a_certificate_without_a_key_is_refused(authority: Authority) -> None:
    with pytest.raises(Exception, match="TLS_KEY_FILE: expected a file, got nothing"):
        Settings(tls_cert_file=authority.issue("server")[0])


# As Kubernetes gives it ---------------------------------------------------------------------------------------------


class Mounted:
    """A Secret as the kubelet mounts it: the files are links into a folder that is replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._number = folder, 0
        folder.mkdir()

    def write(self, **files: Path) -> None:
        self._number += 1
        content = self.folder / f"..{self._number}"
        content.mkdir()
        for name, file in files.items():
            (content / name.replace("_", ".")).write_bytes(file.read_bytes())
        (self.folder / "..data_tmp").symlink_to(content.name)
        (self.folder / "..data_tmp").rename(self.folder / "..data")
        for name in files:
            link = self.folder / name.replace("_", ".")
            if not link.is_symlink():
                link.symlink_to(Path("..data", link.name))


def variables(mounted: Mounted, **more: str) -> dict[str, str]:
    folder = mounted.folder
    return {"TLS_CERT_FILE": f"{folder}/tls.crt", "TLS_KEY_FILE": f"{folder}/tls.key", **more}


@pytest.fixture
def mounted(tmp_path: Path, authority: Authority) -> Mounted:
    cert, key = authority.issue("server", serial=1001)
    secret = Mounted(tmp_path / "secret")
    secret.write(tls_crt=cert, tls_key=key, ca_crt=authority.ca)
    return secret


def test_a_secret_that_is_replaced_is_served_without_a_restart(
    tmp_path: Path, authority: Authority, mounted: Mounted
) -> None:
    health = free_port()
    with Program(model_directory(tmp_path / "model"), **variables(mounted, HEALTH_PORT=str(health))) as program:
        wait_health(f"localhost:{health}", SERVING, 30)
        assert served_serial(program.port, authority.ca) == 1001
        with Client(f"localhost:{program.port}", credentials=clients.credentials(authority.ca, None, None)) as client:
            assert client.predict(X)["y"].tolist() == [1.0]

            cert, key = authority.issue("server", serial=1002)
            mounted.write(tls_crt=cert, tls_key=key, ca_crt=authority.ca)

            assert served_serial(program.port, authority.ca) == 1002
            assert client.predict(X)["y"].tolist() == [1.0]  # who is connected stays so


def test_handshakes_in_the_middle_of_a_renewal_never_see_half_of_it(
    tmp_path: Path, authority: Authority, mounted: Mounted
) -> None:
    pairs = [authority.issue(f"server-{serial}", serial=serial) for serial in (1001, 1002)]
    enough = threading.Event()

    def renew() -> None:
        for number in itertools.count():
            if enough.is_set():
                return
            cert, key = pairs[number % 2]
            mounted.write(tls_crt=cert, tls_key=key, ca_crt=authority.ca)

    cert, key = (mounted.folder / name for name in ("tls.crt", "tls.key"))
    runtime = RuntimeManager(
        model_directory(tmp_path / "m"), 0, settings=Settings(tls_cert_file=cert, tls_key_file=key)
    )
    with runtime:
        renewing = threading.Thread(target=renew)
        renewing.start()
        try:
            assert {served_serial(runtime.port, authority.ca) for _ in range(300)} == {1001, 1002}
        finally:
            enough.set()
            renewing.join()


def test_health_is_answered_without_tls_and_nothing_else_is(tmp_path: Path, mounted: Mounted) -> None:
    health = free_port()
    more = variables(mounted, HEALTH_PORT=str(health), TLS_CLIENT_CA_FILE=f"{mounted.folder}/ca.crt")
    with Program(model_directory(tmp_path / "model"), **more):
        wait_health(f"localhost:{health}", SERVING, 30)
        with Client(f"localhost:{health}", timeout=5) as probe:
            assert probe.health() == probe.health("hydrosphere.serving.runtime.PredictionService") == "SERVING"
            for call in (probe.contract, lambda: probe.predict(X)):
                with pytest.raises(grpc.RpcError) as refused:
                    call()
                assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_model_that_loads_is_not_ready_on_the_port_of_probes_either(tmp_path: Path) -> None:
    health = free_port()
    code = "import time\ntime.sleep(2)\ndef echo(x):\n    return {'y': x}\n"
    with Program(model_directory(tmp_path / "model", code), HEALTH_PORT=str(health)):
        wait_health(f"localhost:{health}", SERVING, 30, service="")
        with Client(f"localhost:{health}", timeout=5) as probe:
            assert probe.health("readiness") == "NOT_SERVING"
        wait_health(f"localhost:{health}", SERVING, 30)


def test_probes_hear_of_the_stop(tmp_path: Path) -> None:
    health = free_port()
    model = model_directory(tmp_path / "model")
    with Program(model, HEALTH_PORT=str(health), DRAIN_DELAY_SECONDS="2") as program:
        wait_health(f"localhost:{health}", SERVING, 30)
        program.terminate()
        wait_health(f"localhost:{health}", 2, 2)
        assert program.end()[0] == 0


@pytest.mark.parametrize("tls", [False, True])
def test_the_healthcheck_of_the_image_works_with_tls_and_without(tmp_path: Path, mounted: Mounted, tls: bool) -> None:
    more = variables(mounted, TLS_CLIENT_CA_FILE=f"{mounted.folder}/ca.crt") if tls else {}
    more |= {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    with Program(model_directory(tmp_path / "model"), **more) as program:
        environment = {**os.environ, "APP_PORT": str(program.port), **more}
        end = time.monotonic() + 30
        while (done := healthcheck(environment)).returncode:
            assert time.monotonic() < end, done.stderr
            time.sleep(0.2)
        program.process.kill()
        program.process.wait(10)
        assert healthcheck(environment).returncode == 1


def healthcheck(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "model_runtime.server.healthcheck"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)


def test_a_port_of_probes_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::", 0))
        other.listen()
        taken = other.getsockname()[1]
        runtime = RuntimeManager(model_directory(tmp_path), 0, settings=Settings(health_port=taken))
        with pytest.raises(PortUnavailable, match=rf"port {taken} .* \(HEALTH_PORT chooses another"):
            runtime.start()
