"""Whether a live object already is what is wanted, so that steady state writes nothing. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from .. import names

_KEYS = ("name", "containerPort", "port", "key", "uid", "topologyKey")  # by which the API server tells list items apart
_QUANTITY = re.compile(r"^([+-]?[0-9.]+)(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$")
_FACTORS = {"": Decimal(1), "m": Decimal("0.001"), "k": Decimal(10**3)} | {
    unit: Decimal(base**power)
    for base, suffix in ((1000, ""), (1024, "i"))
    for power, unit in enumerate(
        (f"K{suffix}", f"M{suffix}", f"G{suffix}", f"T{suffix}", f"P{suffix}", f"E{suffix}"), 1
    )
}


def fingerprint(wanted: Mapping[str, Any]) -> str:
    """A ConfigMap of ours is named after its content, which is not kept in the caches and so does not count here."""
    content = ("data", "binaryData") if wanted["kind"] == "ConfigMap" else ()
    said = {key: value for key, value in wanted.items() if key not in content}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def is_applied(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """Whether `live` was last applied as `wanted` is, and nobody has changed since what we said.

    The annotation covers what we no longer say, the comparison what others changed. What we never said is theirs.
    """
    annotations = live["metadata"].get("annotations") or {}
    if annotations.get(names.APPLIED) != fingerprint(wanted):
        return False
    known = {key: value for key, value in wanted.items() if key in live}  # of some kinds only the metadata is kept
    return contains(live, known)


def contains(live: Any, wanted: Any) -> bool:
    """Whether everything that `wanted` says is so in `live`."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(
            contains(live[key], value) if key in live else _is_nothing(value) for key, value in wanted.items()
        )
    if isinstance(wanted, (list, tuple)):
        return isinstance(live, list) and all(_has_item(live, index, item) for index, item in enumerate(wanted))
    return bool(live == wanted) or _is_same_quantity(live, wanted)


def _has_item(live: list[Any], index: int, wanted: Any) -> bool:
    if not isinstance(wanted, Mapping):
        return index < len(live) and contains(live[index], wanted)
    key = next((key for key in _KEYS if key in wanted), None)
    candidates = [each for each in live if key and isinstance(each, Mapping) and each.get(key) == wanted[key]]
    if not candidates and index < len(live) and key is None:
        candidates = [live[index]]
    return any(contains(candidate, wanted) for candidate in candidates)


def _is_nothing(value: Any) -> bool:
    """The API server leaves out what means nothing: false, 0, "" and what is empty. An `emptyDir: {}` it keeps."""
    return value in (False, 0, "", [], {}, None)


def _is_same_quantity(live: Any, wanted: Any) -> bool:
    left, right = _quantity(live), _quantity(wanted)
    return left is not None and left == right


def _quantity(value: Any) -> Decimal | None:
    found = (
        _QUANTITY.match(str(value)) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None
    )
    try:
        return Decimal(found[1]) * _FACTORS[found[2] or ""] if found else None
    except ArithmeticError:
        return None
