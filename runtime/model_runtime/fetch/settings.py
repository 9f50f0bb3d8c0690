"""Environment of the fetch step: the credentials of a Secret, certificates to trust, and limits."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import InvalidSetting

GIB = 1 << 30

# Variables that other tools read. Each names a PEM file, or a folder of them.
CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "PIP_CERT")
_CREDENTIALS = ("AWS_", "AZURE_", "GOOGLE_")


@dataclass(frozen=True)
class Limits:
    """Bounds on what one fetch may bring. `ratio` applies to an archive that inflates to more than 1 GiB."""

    max_bytes: int = 100 * GIB
    max_files: int = 100_000
    max_ratio: int = 100
    timeout_seconds: int = 14_400


def limits() -> Limits:
    """The limits of the environment: FETCH_MAX_BYTES and the like. Raises InvalidSetting."""
    return Limits(**{name: _number(f"FETCH_{name.upper()}", default) for name, default in asdict(Limits()).items()})


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "").strip()
    if text and not (text.isdecimal() and 0 < int(text) < 2**63):
        raise InvalidSetting(f"{variable}: expected a whole number from 1, got {text!r}")
    return int(text) if text else default


def authorization() -> str | None:
    """The Authorization header for a web server, where a Secret gives one. Raises InvalidSetting."""
    text = os.environ.get("HTTP_AUTHORIZATION", "").strip()
    if not all(" " <= sign <= "~" for sign in text):
        raise InvalidSetting("HTTP_AUTHORIZATION: expected one line of printable ASCII, got other characters")
    return text or None


def token_service() -> str | None:
    """The address where a web identity is exchanged for a role; obstore has a setting for it and reads no variable."""
    return os.environ.get("AWS_ENDPOINT_URL_STS", "").strip() or None


def certificates() -> list[Path]:
    """Files and folders of certificates that the environment adds to the system's. Raises InvalidSetting."""
    found: dict[Path, None] = {}
    for variable in CERTIFICATES:
        if text := os.environ.get(variable, "").strip():
            if not Path(text).exists():
                raise InvalidSetting(f"{variable}: expected a file of certificates (PEM), got {text!r}")
            found[Path(text)] = None
    return list(found)


def trim_credentials() -> None:
    """Removes the line break with which the values of many Secrets end; no store accepts it in a header."""
    for name, text in os.environ.items():
        if name.startswith(_CREDENTIALS) and text != text.strip():
            os.environ[name] = text.strip()
