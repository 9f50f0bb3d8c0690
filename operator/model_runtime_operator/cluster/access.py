"""Where the API server is, and who the operator is there: a pod's service account, or a person's kubeconfig."""

from __future__ import annotations

import dataclasses
import ssl
import time
from pathlib import Path

import kopf

from ..settings import InvalidSetting, Settings

TOKEN_SECONDS = 60.0  # the kubelet replaces a service account's token about once an hour


def login(settings: Settings) -> kopf.ConnectionInfo:
    """Returns the server's address and the credentials. Raises InvalidSetting."""
    return _by_kubeconfig(settings.kubeconfig) if settings.kubeconfig else _as_pod(settings.api_server)


def _as_pod(server: str) -> kopf.ConnectionInfo:
    found = kopf.login_with_service_account(settings=kopf.OperatorSettings())
    if found is None:
        raise InvalidSetting("KUBECONFIG: expected a file, or a pod's service account; found neither")
    return dataclasses.replace(found, server=server or found.server)


def _by_kubeconfig(kubeconfig: Path) -> kopf.ConnectionInfo:
    try:
        found = kopf.login_with_kubeconfig(settings=kopf.OperatorSettings())
    except Exception as error:  # noqa: BLE001  # the file is a person's: kopf raises whatever its content leads to
        raise InvalidSetting(f"KUBECONFIG: {kubeconfig} cannot be used: {type(error).__name__}: {error}") from None
    if found is None or not found.server:
        raise InvalidSetting(f"KUBECONFIG: expected a cluster with a server in {kubeconfig}, found none")
    if found.server.startswith("https:") and not (found.token or found.username or _has_certificate(found)):
        raise InvalidSetting(
            f"KUBECONFIG: expected a token or a client certificate in {kubeconfig}, found none. Plugins (exec) are not run: "
            "start `kubectl proxy`, and set KUBECONFIG to a file whose server is its address"
        )
    return found


class Access:
    """The API server's address, TLS context and current credentials."""

    def __init__(self, settings: Settings) -> None:
        """Raises InvalidSetting."""
        self._settings, self._found, self._since = settings, login(settings), time.monotonic()
        self.server = self._found.server.rstrip("/")
        self.tls: ssl.SSLContext | None = self._found.as_ssl_context() if self.server.startswith("https") else None

    def headers(self) -> dict[str, str]:
        """Returns the Authorization header, if there is one. A service account's token is read again as it is replaced."""
        if self._settings.kubeconfig is None and time.monotonic() - self._since > TOKEN_SECONDS:
            self._found, self._since = login(self._settings), time.monotonic()
        return dict(self._found.as_http_headers())


def _has_certificate(found: kopf.ConnectionInfo) -> bool:
    return bool(found.certificate_path or found.certificate_data)
