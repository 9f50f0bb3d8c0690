"""Fleet defaults: values of the cluster's owner for fields that a ModelRuntime leaves out. Pure.

Defaults are part of a rollout, never a reason for one: each Deployment records the defaults that its pods were rolled out
with, and they stay in force until a change of the ModelRuntime rolls the pods anyway.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from . import names

Spec = Mapping[str, Any]

# Fields of a spec that may have a default: how pods run. What a model is, and how many pods serve it, is its author's.
ALLOWED = frozenset(
    {
        "affinity",
        "disruptionBudget",
        "env",
        "envFrom",
        "fsGroup",
        "imagePullPolicy",
        "imagePullSecrets",
        "initResources",
        "networkPolicy",
        "nodeSelector",
        "podAnnotations",
        "podLabels",
        "priorityClassName",
        "progressDeadlineSeconds",
        "resources",
        "runtimeClassName",
        "securityContext",
        "serviceAccountName",
        "sharedMemory",
        "strategy",
        "terminationGracePeriodSeconds",
        "tolerations",
        "topologySpreadConstraints",
        "volumeMounts",
        "volumes",
    }
)
_NAMED = frozenset({"env", "imagePullSecrets", "volumes"})  # lists whose items have a name, as in a pod


class InvalidDefaults(ValueError):
    """Defaults that cannot be used: what was expected and what came."""


def read(text: str) -> Spec:
    """Returns the defaults in a JSON text; an empty text has none. Raises InvalidDefaults."""
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise InvalidDefaults(f"expected JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidDefaults(f"expected an object of spec fields, got {type(found).__name__}")
    if unknown := sorted(found.keys() - ALLOWED):
        raise InvalidDefaults(f"expected fields among {', '.join(sorted(ALLOWED))}; got {', '.join(unknown)}")
    return found


def merged(spec: Spec, defaults: Spec) -> dict[str, Any]:
    """Returns the spec with defaults for what it leaves out: maps key by key, lists of named items by name."""
    return {**defaults, **{key: _merged(key, value, defaults.get(key)) for key, value in spec.items()}}


def _merged(key: str, value: Any, default: Any) -> Any:
    if isinstance(value, Mapping) and isinstance(default, Mapping):
        return {**default, **{name: _merged(name, each, default.get(name)) for name, each in value.items()}}
    if key in _NAMED and isinstance(value, list) and isinstance(default, list):
        chosen = {each.get("name") for each in value}
        return [*(each for each in default if each.get("name") not in chosen), *value]
    return value


def recorded(deployment: Mapping[str, Any] | None) -> Spec | None:
    """Returns the defaults that a Deployment's pods were rolled out with, or None if it does not say."""
    annotations = (deployment or {}).get("metadata", {}).get("annotations") or {}
    try:
        found = json.loads(annotations[names.DEFAULTS])
    except (KeyError, ValueError):  # it has none, or a person's edit
        return None
    return found if isinstance(found, dict) else None


def record(chosen: Spec) -> dict[str, str]:
    """Returns the annotation by which a Deployment records the defaults that are in force."""
    return {names.DEFAULTS: json.dumps(chosen, sort_keys=True, separators=(",", ":"))}


def status(spec: Spec, chosen: Spec, current: Spec) -> dict[str, Any] | None:
    """Returns what the status reports: the defaults in force, and whether newer ones wait for the next change."""
    if not chosen and not current:
        return None
    return {"applied": {key: value for key, value in chosen.items() if key not in spec or spec[key] != value},
            "pending": dict(chosen) != dict(current)}  # fmt: skip
