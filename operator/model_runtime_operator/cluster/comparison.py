"""Whether a live object already is what is wanted, so that steady state writes nothing. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from .. import names

# Lists to which others may add items, and how the API server tells these apart. All other lists are replaced as a whole.
_KEYS = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "port", "protocol"),
    "ownerReferences": ("uid",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "imagePullSecrets": ("name",),
}

# Fields in which an addition changes what we said: one more label selects fewer pods, one more peer lets somebody in.
_WHOLE = frozenset(
    ("selector", "matchLabels", "podSelector", "labelSelector", "nodeSelector", "ingress", "policyTypes", "metrics")
)

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


def state(live: Mapping[str, Any]) -> str:
    """A digest of what people may change in an object: of everything but its status and the API server's own bookkeeping."""
    kept = ("labels", "annotations", "ownerReferences")
    metadata = {key: live["metadata"].get(key) for key in kept}
    said = {key: value for key, value in live.items() if key not in ("metadata", "status")}
    return hashlib.sha256(json.dumps([metadata, said], sort_keys=True).encode()).hexdigest()[:16]


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
    """Whether everything that `wanted` says is so in `live`, and nothing was added where an addition changes its meaning."""
    return _matches(live, wanted, "", is_whole=False)


def _matches(live: Any, wanted: Any, field: str, *, is_whole: bool) -> bool:
    is_whole = is_whole or field in _WHOLE
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and _has_fields(live, wanted, is_whole=is_whole)
    if isinstance(wanted, (list, tuple)):
        if not isinstance(live, list):
            return False
        if field in _KEYS and not is_whole:
            return all(_has_item(live, item, _KEYS[field]) for item in wanted)
        return len(live) == len(wanted) and all(
            _matches(one, other, "", is_whole=is_whole) for one, other in zip(live, wanted, strict=True)
        )
    return bool(live == wanted) or _is_same_quantity(live, wanted)


def has_same_pods(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Returns True if applying the wanted Deployment leaves the pods of the live one as they are."""
    return contains(live["spec"]["template"], wanted["spec"]["template"])


def repaired(live: Any, wanted: Any, field: str = "") -> Any:
    """`live` with what `wanted` says. A structure with a field that differs is taken whole: what others put there goes.

    An apply keeps what others added, and some fields exclude each other: a probe that was given `httpGet` cannot have `grpc` too.
    """
    if isinstance(live, Mapping) and isinstance(wanted, Mapping):
        plain = (key for key, value in wanted.items() if not isinstance(value, (Mapping, list, tuple)))
        if any(key not in live for key in wanted) or any(not contains(live[key], wanted[key]) for key in plain):
            return wanted
        return {**live, **{key: repaired(live[key], value, key) for key, value in wanted.items()}}
    if isinstance(live, list) and isinstance(wanted, (list, tuple)) and field in _KEYS:
        keys = _KEYS[field]
        theirs = [each for each in live if not any(_is_same_item(each, one, keys) for one in wanted)]
        return [*(_repaired_item(live, each, keys) for each in wanted), *theirs]
    return live if contains(live, wanted) else wanted


def _repaired_item(live: list[Any], wanted: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((repaired(each, wanted) for each in live if _is_same_item(each, wanted, keys)), wanted)


def _has_fields(live: Mapping[str, Any], wanted: Mapping[str, Any], *, is_whole: bool) -> bool:
    if is_whole and any(key not in wanted and not _is_nothing(value) for key, value in live.items()):
        return False
    return all(
        _matches(live[key], value, key, is_whole=is_whole) if key in live else _is_nothing(value)
        for key, value in wanted.items()
    )


def _has_item(live: list[Any], wanted: Mapping[str, Any], keys: tuple[str, ...]) -> bool:
    """Whether the list, whose items the API server tells apart by `keys`, has that item. It may have others."""
    same = (each for each in live if _is_same_item(each, wanted, keys))
    return any(_matches(each, wanted, "", is_whole=False) for each in same)


def _is_same_item(live: Mapping[str, Any], wanted: Mapping[str, Any], keys: tuple[str, ...]) -> bool:
    return all(key not in wanted or live.get(key) == wanted[key] for key in keys)


def _is_nothing(value: Any) -> bool:
    """The API server leaves out what is empty. A false or a 0 it keeps, so their lack is a change."""
    return value in ("", [], {}, None)


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
