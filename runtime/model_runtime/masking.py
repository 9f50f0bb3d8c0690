"""Credentials removed from text that is logged, reported to Kubernetes or shown to a person. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = "****"

_USER = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s@'\"<>]*(?:@[^/\s@'\"<>]*)*@(?=[^/\s'\"<>])")
_QUERY = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s?#'\"<>]*)\?[^\s#'\"<>]*")
_AUTHORIZATION = re.compile(r"(?i)\b(authorization\s*[:=]\s*(?:basic|bearer|token)?\s*)\S+")
_SHORTEST = 4  # a shorter secret would mask ordinary words


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """Returns `text` without the user information and the query of its addresses, and without any of `secrets`."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, MASK)
    text = _USER.sub(rf"\1{MASK}@", text)
    text = _QUERY.sub(rf"\1?{MASK}", text)
    return _AUTHORIZATION.sub(rf"\1{MASK}", text)
