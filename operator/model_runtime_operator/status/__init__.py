"""The status of a ModelRuntime, judged from what was observed and nothing else. Pure: the time is an argument.

All conditions are always there. `Stalled` and `Reconciling` are never true together, and neither is true when `Ready` is: so
kstatus reads Failed, InProgress or Current, whichever order it looks in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .. import names
from ..spec import ModelRuntime, Object, Promise
from ..vocabulary import (
    AVAILABLE,
    CONTRACT_ACCEPTED,
    READY,
    REASONS,
    RECONCILING,
    STALLED,
    Problem,
    problem,
)
from . import failures
from .failures import refused
from .observed import Observed, Rollout, condition, rollout
from .transitions import Transition
from .transitions import between as transitions

__all__ = ["Observed", "Outcome", "Transition", "of", "refused", "transitions"]

_CONTRACT_WORDS = ("ContractInvalid", "ContractMissing", "ContractMismatch")
MESSAGE_LIMIT = 4000  # characters; the API allows 32768, people read less


@dataclass(frozen=True)
class Outcome:
    """What came of reconciling: the parsed ModelRuntime (None: it makes no sense), and what stood in the way."""

    runtime: ModelRuntime | None
    promise: Promise | None = None
    problem: Problem | None = None
    model_digest: str | None = None


@dataclass(frozen=True)
class _Verdict:
    """The answers, before they are written as conditions."""

    is_ready: bool
    is_stalled: bool
    cause: Problem  # why it is (not) ready


def of(
    body: Object, outcome: Outcome, observed: Observed, *, now: str, domain: str = "cluster.local"
) -> dict[str, Any]:
    """The status to be written for `body`. `now` dates the conditions that change; the others keep their time."""
    numbers = rollout(observed.deployment)
    verdict = _judge(outcome, observed, numbers)
    generation = body["metadata"].get("generation", 1)
    previous = (body.get("status") or {}).get("conditions") or ()
    answers = _answers(verdict, outcome, observed)
    status: dict[str, Any] = {
        "observedGeneration": generation,
        "conditions": [_dated(answer, previous, generation, now) for answer in answers],
        "replicas": numbers.replicas,
        "readyReplicas": numbers.ready,
        "updatedReplicas": numbers.updated,
        "replicasText": f"{numbers.ready}/{numbers.wanted}" if observed.deployment else "0/0",
        "selector": names.selector_text(body["metadata"]["name"]),
        "revision": observed.revision,
        **_facts(outcome, domain),
    }
    return {key: value for key, value in status.items() if value is not None}


# The verdict ----------------------------------------------------------------------------------------------------------


def _judge(outcome: Outcome, observed: Observed, numbers: Rollout) -> _Verdict:
    if outcome.problem is not None or outcome.runtime is None:
        cause = outcome.problem or problem("InvalidSpec", "the spec makes no sense")
        return _Verdict(False, cause.reason.stalls, cause)
    needed = min(numbers.wanted, outcome.runtime.wanted_replicas) if outcome.runtime.autoscaling else numbers.wanted
    if numbers.is_complete and numbers.available >= needed and (observed.serving or numbers.wanted == 0):
        return _settled(outcome.runtime, observed, numbers)
    return _unsettled(outcome.runtime, observed, numbers)


def _settled(runtime: ModelRuntime, observed: Observed, numbers: Rollout) -> _Verdict:
    if numbers.wanted == 0:
        return _Verdict(False, False, problem("ScaledToZero", "no pods are wanted (replicas: 0), so nothing serves"))
    text = f"revision {observed.revision} is rolled out, {_serve(observed.serving)}"
    return _Verdict(True, False, problem("Available", text))


def _unsettled(runtime: ModelRuntime, observed: Observed, numbers: Rollout) -> _Verdict:
    failure = failures.find(observed)
    progressing = condition(observed.deployment, "Progressing")
    is_overdue = progressing.get("reason") == "ProgressDeadlineExceeded"
    if failure is not None:
        late = f" (no progress for {runtime.progress_deadline_seconds} s)" if is_overdue else ""
        return _Verdict(False, failure.reason.stalls or is_overdue, Problem(failure.reason, failure.message + late))
    if runtime.paused and not numbers.is_complete:
        return _Verdict(False, False, problem("Paused", "rollouts are paused (paused: true)"))
    if is_overdue:
        text = f"Deployment {runtime.name}: {progressing.get('message', '')}"
        return _Verdict(False, True, problem("ProgressDeadlineExceeded", text))
    return _Verdict(False, False, problem("Deploying", _waiting_for(observed, numbers)))


def _waiting_for(observed: Observed, numbers: Rollout) -> str:
    if observed.deployment is None or not numbers.is_observed or not observed.current_pods:
        return f"0 of {numbers.wanted or 1} pods of the latest revision are ready"
    if numbers.available < numbers.wanted or numbers.updated < numbers.wanted:
        new = sum(condition(pod, "Ready").get("status") == "True" for pod in observed.current_pods)
        return f"{new} of {numbers.wanted} pods of the latest revision are ready"
    if numbers.replicas > numbers.updated:
        return f"{_pods(numbers.replicas - numbers.updated)} of older revisions are still ending"
    if numbers.replicas > numbers.wanted:
        return f"{_pods(numbers.replicas - numbers.wanted)} more than are wanted are still ending"
    return f"Service {observed.deployment['metadata']['name']} has no ready endpoint yet"


def _pods(count: int) -> str:
    return f"{count} pod" if count == 1 else f"{count} pods"


def _serve(count: int) -> str:
    return "1 pod serves" if count == 1 else f"{count} pods serve"


# The answers ----------------------------------------------------------------------------------------------------------

_Answer = tuple[str, str, str, str]  # type, status, reason, message


def _answers(verdict: _Verdict, outcome: Outcome, observed: Observed) -> Iterator[_Answer]:
    word, text = verdict.cause.reason.word, verdict.cause.message[:MESSAGE_LIMIT]
    is_moving = not verdict.is_ready and not verdict.is_stalled and word != "ScaledToZero"
    yield READY, _truth(verdict.is_ready), word, text
    yield _available(verdict, observed, word, text)
    yield (RECONCILING, "True", word, text) if is_moving else (RECONCILING, "False", *_still(verdict, word, text))
    yield (STALLED, "True", word, text) if verdict.is_stalled else (STALLED, "False", "NotStalled", "")
    yield _contract_answer(outcome, verdict, observed)


def _available(verdict: _Verdict, observed: Observed, word: str, text: str) -> _Answer:
    if observed.serving:
        return AVAILABLE, "True", "Available", _serve(observed.serving)
    return AVAILABLE, "False", "NotAvailable" if verdict.is_ready else word, text


def _still(verdict: _Verdict, word: str, text: str) -> tuple[str, str]:
    return ("RolledOut", "") if verdict.is_ready else (word, text)


def _contract_answer(outcome: Outcome, verdict: _Verdict, observed: Observed) -> _Answer:
    cause = verdict.cause
    if cause.reason.word in _CONTRACT_WORDS:
        return CONTRACT_ACCEPTED, "False", cause.reason.word, cause.message[:MESSAGE_LIMIT]
    if outcome.promise is not None:
        return CONTRACT_ACCEPTED, "True", "Accepted", str(outcome.promise.contract)[:MESSAGE_LIMIT]
    if outcome.runtime is not None and verdict.is_ready:
        return CONTRACT_ACCEPTED, "True", "Accepted", "the runtime read it from the model's source"
    return CONTRACT_ACCEPTED, "Unknown", "Unknown", REASONS["Unknown"].meaning


def _truth(value: bool) -> str:
    return "True" if value else "False"


def _dated(answer: _Answer, previous: Sequence[Object], generation: int, now: str) -> dict[str, Any]:
    kind, value, reason, message = answer
    before: Object = next((each for each in previous if each["type"] == kind), {})
    return {
        "type": kind,
        "status": value,
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if before.get("status") == value else now,
        "reason": reason,
        "message": message,
    }


def _facts(outcome: Outcome, domain: str) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if outcome.runtime is not None:
        runtime = outcome.runtime
        facts["endpoint"] = names.endpoint(runtime.name, runtime.namespace, runtime.port, domain)
    if outcome.promise is not None:
        digest = hashlib.sha256(outcome.promise.protobin).hexdigest()
        facts["contract"] = {"sha256": digest, "short": digest[:6], "signature": str(outcome.promise.contract)}
    if outcome.model_digest:
        facts["model"] = {"digest": outcome.model_digest}
    return facts
