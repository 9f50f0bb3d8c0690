"""TLS and mutual TLS from files, read again whenever they change: certificates are renewed without a restart."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

import grpc

from ..errors import InvalidSetting
from ..settings import Settings

log = logging.getLogger(__name__)


def credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """The server's credentials, or None where TLS is off. Raises InvalidSetting for files that cannot be used."""
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    files = _Files(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
    return grpc.dynamic_ssl_server_credentials(
        files.read(),
        files.changed,  # type: ignore[arg-type]  # None means unchanged, which the stubs do not know
        require_client_authentication=settings.tls_client_ca_file is not None,
    )


class _Files:
    """The PEM files, with what was last seen of them. gRPC asks `changed` at each handshake."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self._seen: tuple[tuple[int, int], ...] = ()

    def read(self) -> grpc.ServerCertificateConfiguration:
        seen = self._stamps()
        key, cert = self._key.read_bytes(), self._cert.read_bytes()
        roots = None if self._client_ca is None else self._client_ca.read_bytes()
        self._check()
        self._seen = seen
        return grpc.ssl_server_certificate_configuration([(key, cert)], roots)

    def _check(self) -> None:
        """gRPC would notice a broken pair at the first handshake only, and say so to nobody."""
        probe = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            probe.load_cert_chain(self._cert, self._key)
        except (ssl.SSLError, ValueError) as error:
            raise InvalidSetting(
                f"{self._cert}, {self._key}: expected a certificate and its key, got {error}"
            ) from None
        if self._client_ca is None:
            return
        try:
            probe.load_verify_locations(self._client_ca)
        except ssl.SSLError as error:
            raise InvalidSetting(f"{self._client_ca}: expected certificates, got {error}") from None

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """New configuration when a file changed; a half-written or missing file leaves the old one in force."""
        try:
            if self._stamps() == self._seen:
                return None
            configuration = self.read()
        except (OSError, InvalidSetting) as error:
            log.warning("certificates not renewed", extra={"reason": str(error)})
            return None
        log.info("certificates renewed", extra={"file": str(self._cert)})
        return configuration

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        files = [file for file in (self._cert, self._key, self._client_ca) if file is not None]
        return tuple((status.st_mtime_ns, status.st_ino) for status in map(Path.stat, files))
