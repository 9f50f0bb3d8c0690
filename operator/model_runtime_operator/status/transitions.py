"""What is worth an Event: the difference between two statuses, in the order things happened. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..vocabulary import CONTRACT_ACCEPTED, READY, RECONCILING

_QUIET = ("Deploying", "Available", "ScaledToZero", "Paused")


@dataclass(frozen=True)
class Transition:
    """`kind` is Normal or Warning."""

    kind: str
    reason: str
    message: str


def between(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Transition]:
    return list(_between(old, new))


def _between(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Transition]:
    before, after = _conditions(old), _conditions(new)
    ready, was_ready = after[READY], before.get(READY, {})
    if after[CONTRACT_ACCEPTED]["status"] == "True" and _contract(old) != _contract(new):
        accepted = after[CONTRACT_ACCEPTED]["message"]
        yield Transition("Normal", "ContractAccepted", f"{accepted} (contract {_contract(new)[:6]})")
    if _is_rolling(after) and (
        not _is_rolling(before) or old.get("observedGeneration") != new.get("observedGeneration")
    ):
        yield Transition("Normal", "RolloutStarted", ready["message"])
    if new.get("readyReplicas", 0) and not old.get("readyReplicas", 0) and ready["status"] != "True":
        yield Transition("Normal", "FirstPodReady", ready["message"])
    if ready["status"] == "True" and was_ready.get("status") != "True":
        yield Transition("Normal", "RolledOut", ready["message"])
    elif ready["reason"] != was_ready.get("reason") and ready["reason"] not in ("Deploying", "Available"):
        yield Transition("Normal" if ready["reason"] in _QUIET else "Warning", ready["reason"], ready["message"])


def _conditions(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {each["type"]: each for each in status.get("conditions") or ()}


def _is_rolling(conditions: Mapping[str, Mapping[str, Any]]) -> bool:
    reconciling = conditions.get(RECONCILING, {})
    return reconciling.get("status") == "True" and reconciling.get("reason") == "Deploying"


def _contract(status: Mapping[str, Any]) -> str:
    return str((status.get("contract") or {}).get("sha256", ""))
