"""What generic clients find on the port: health in all its names, reflection with the true ones, TLS."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from serving import ECHO_CONTRACT, model_directory

from model_runtime import RuntimeManager, contract, tensors
from model_runtime import client as clients
from model_runtime.client import Client
from model_runtime.server.health import MODEL_NAMES, PROCESS_NAMES
from model_runtime.settings import Settings

X = {"x": tensors.tensor(np.array([1.0]))}
SERVICES = {
    "hydrosphere.tensorflow.serving.PredictionService",
    "tensorflow.serving.PredictionService",
    "hydrosphere.serving.runtime.PredictionService",
    "inference.GRPCInferenceService",
    "model_runtime.v1.ContractService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
}


@pytest.mark.parametrize("name", [*PROCESS_NAMES, *MODEL_NAMES])
def test_health_knows_every_customary_name(serve: Any, name: str) -> None:
    assert serve().health(name) == "SERVING"


def test_health_of_an_unknown_service_is_not_found(serve: Any) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        serve().health("no.such.Service")

    assert failure.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_lists_every_name_with_its_status(serve: Any) -> None:
    stub = health_pb2_grpc.HealthStub(serve().channel)

    listed = stub.List(health_pb2.HealthListRequest(), timeout=5).statuses

    assert {name: status.status for name, status in listed.items()} == dict.fromkeys([*PROCESS_NAMES, *MODEL_NAMES], 1)


def test_reflection_shows_every_service_under_its_true_name(serve: Any) -> None:
    database = ProtoReflectionDescriptorDatabase(serve().channel)

    assert set(database.get_services()) == SERVICES


def test_a_client_that_knows_nothing_can_build_a_request_from_reflection(serve: Any) -> None:
    pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(serve().channel))

    methods = {
        service: sorted(method.name for method in pool.FindServiceByName(service).methods)
        for service in sorted(SERVICES)
    }

    assert methods["tensorflow.serving.PredictionService"] == ["Predict", "Status"]
    assert methods["hydrosphere.serving.runtime.PredictionService"] == ["Predict"]
    request = pool.FindMessageTypeByName("hydrosphere.tensorflow.serving.PredictRequest")
    assert request.fields_by_name["inputs"].number == 2


def test_the_contract_can_be_asked_for(serve: Any) -> None:
    assert serve().contract().signatures == contract.parse(ECHO_CONTRACT).signatures


# TLS ----------------------------------------------------------------------------------------------------------------

# What a certificate authority's key is for: certificates and lists of revoked ones.
_SIGNS = x509.KeyUsage(False, False, False, False, False, True, True, False, False)


class Authority:
    """A certificate authority that lives in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        self.certificate = self._sign(self.name, self.key, is_authority=True)
        self.ca = self._write("ca.pem", self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, serial: int = 7) -> tuple[Path, Path]:
        """The files of a new certificate for localhost and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key, serial=serial)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._write(f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM)), self._write(
            f"{name}.key", private
        )

    def _sign(self, subject: x509.Name, key: Any, *, is_authority: bool = False, serial: int = 1) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            # Python 3.13 insists on these
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if is_authority:
            builder = builder.add_extension(_SIGNS, critical=True)
        return builder.sign(self.key, hashes.SHA256())

    def _write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path


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
    import socket
    import ssl

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
