"""Environment of an installation: limits, the installers' own variables, and values that must not be shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..errors import InvalidSetting

GIB = 1 << 30

_SECRET = re.compile(r"PASS|TOKEN|SECRET|KEY(?!RING)|CREDENTIAL", re.I)
_SHORTEST, _LONGEST = 8, 4096  # of a value that is masked wherever it stands
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.I)
_INSTALLER = ("PIP_", "UV_")
# Variables of pip that decide what is installed. uv reads none of them.
_PIP_ONLY = (
    "INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS", "NO_INDEX", "TRUSTED_HOST", "CONSTRAINT", "REQUIRE_HASHES", "PRE",
    "ONLY_BINARY", "NO_BINARY", "PREFER_BINARY", "NO_DEPS", "PROXY", "CLIENT_CERT", "CONFIG_FILE", "NO_BUILD_ISOLATION",
)  # fmt: skip
# Where something is installed is decided here alone.
_PLACES = (
    "PIP_TARGET", "PIP_USER", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIREMENT", "PIP_REQUIRE_VIRTUALENV", "PIP_PYTHON",
    "UV_SYSTEM_PYTHON", "UV_PYTHON",
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """Bounds on one installation: its time, and its bytes with everything that is downloaded and built for it."""

    timeout_seconds: int = 3600
    max_bytes: int = 50 * GIB


def limits() -> Limits:
    """The limits of the environment: INSTALL_TIMEOUT_SECONDS, INSTALL_MAX_BYTES. Raises InvalidSetting."""
    return Limits(**{name: _number(f"INSTALL_{name.upper()}", default) for name, default in asdict(Limits()).items()})


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "").strip()
    if text and not (text.isdecimal() and 0 < int(text) < 2**63):
        raise InvalidSetting(f"{variable}: expected a whole number from 1, got {text!r}")
    return int(text) if text else default


def configures_pip() -> bool:
    """Whether the environment gives pip, and not uv, its index or its rules."""
    return any(os.environ.get(f"PIP_{name}") for name in _PIP_ONLY)


def installer_variables() -> dict[str, str]:
    """The variables of pip and uv, which decide what is installed."""
    return {name: text for name, text in sorted(os.environ.items()) if name.startswith(_INSTALLER)}


def child(temporary: Path) -> dict[str, str]:
    """The environment of an installer: ours, without places to install to and without questions to a person."""
    kept = {name: text for name, text in os.environ.items() if name not in _PLACES}
    quiet = {"PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "GIT_TERMINAL_PROMPT": "0"}
    return {**kept, **quiet, "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1", "TMPDIR": str(temporary)}


def value(variable: str) -> str | None:
    return os.environ.get(variable)


def cache_home() -> Path | None:
    """The folder of this user's caches, or None where there is no home."""
    if given := os.environ.get("XDG_CACHE_HOME", ""):
        return Path(given) if Path(given).is_absolute() else None
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        return None


def search_path() -> str | None:
    return os.environ.get("PATH")


def secrets(texts: Mapping[str, str]) -> set[str]:
    """Values of variables that look like credentials, and the credentials in the addresses of `texts` and of the installers."""
    found = {text for name, text in os.environ.items() if _SECRET.search(name) and _SHORTEST <= len(text) <= _LONGEST}
    for text in (*texts.values(), *installer_variables().values()):
        for address in _ADDRESS.findall(text):
            found.update(_of_address(address))
    return found


def _of_address(address: str) -> Iterator[str]:
    """Passwords, also decoded; and parts of the path that look like a token, as some indexes have them."""
    try:
        parts = urlsplit(address)
        user, password = parts.username, parts.password
    except ValueError:
        return
    for text in filter(None, (password, user if password is None else None)):
        yield from {text, unquote(text)}
    for part in parts.path.split("/"):
        if re.fullmatch(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_-]{16,}", part):
            yield part
