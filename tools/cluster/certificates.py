"""One throw-away certificate authority, and the certificates and kubeconfigs of a control plane, in one folder."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = datetime.timedelta(days=30)
# Who may do what is decided by the name in the certificate: name -> (common name, group).
USERS = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "apiserver-kubelet": ("kube-apiserver-kubelet-client", "system:masters"),
    "front-proxy": ("front-proxy-client", ""),
    "kubelet": ("system:node:node", "system:nodes"),
    "kube-proxy": ("system:kube-proxy", ""),
}
_SERVER_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
_SERVER_ADDRESSES = ("127.0.0.1", "198.18.0.1", "198.19.0.1")  # loopback, the Service `kubernetes`, the node


class Authority:
    """Issues certificates into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("cluster-authority", "")
        self.certificate = self._write("ca.crt", _pem(self._sign(self._name, self._key, is_authority=True)))

    def server(self, name: str = "apiserver", common: str = "kube-apiserver", group: str = "") -> tuple[Path, Path]:
        """A server's certificate and key; without arguments the API server's."""
        names = [x509.DNSName(name) for name in _SERVER_NAMES]
        addresses = [x509.IPAddress(ipaddress.ip_address(address)) for address in _SERVER_ADDRESSES]
        return self._issue(name, _name(common, group), x509.SubjectAlternativeName([*names, *addresses]))

    def client(self, user: str) -> tuple[Path, Path]:
        """The certificate and key of one of USERS."""
        return self._issue(user, _name(*USERS[user]), None)

    def kubeconfig(self, user: str, server: str, context: str = "dev") -> Path:
        """The kubeconfig of one of USERS."""
        certificate, key = self.client(user)
        cluster = {"server": server, "certificate-authority-data": _base64(self.certificate)}
        who = {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": context,
            "clusters": [{"name": context, "cluster": cluster}],
            "users": [{"name": user, "user": who}],
            "contexts": [{"name": context, "context": {"cluster": context, "user": user}}],
        }
        return self._write(f"{user}.kubeconfig", json.dumps(config).encode())

    def service_accounts(self) -> tuple[Path, Path]:
        """The public and private key with which service accounts' tokens are checked and signed."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return self._write("sa.pub", public), self._write("sa.key", _private(key))

    def _issue(self, name: str, subject: x509.Name, names: x509.SubjectAlternativeName | None) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(subject, key, names=names)
        return self._write(f"{name}.crt", _pem(certificate)), self._write(f"{name}.key", _private(key))

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        names: x509.SubjectAlternativeName | None = None,
        is_authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)
        public = key.public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + _LIFE)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(_usage(is_authority), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if not is_authority:
            purpose = ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if names:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_bytes(data)
        return path


def _usage(is_authority: bool) -> x509.KeyUsage:
    """Python 3.13 accepts no certificate that leaves open what its key is for."""
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str, group: str) -> x509.Name:
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
