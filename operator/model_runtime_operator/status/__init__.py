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
from ..spec import Claim, ModelRuntime, Object, Promise
from ..vocabulary import (
    AVAILABLE,
    CALM,
    CONTRACT_ACCEPTED,
    READY,
    REASONS,
    RECONCILING,
    STALLED,
    Problem,
    problem,
)
from . import failures, waits
from .observed import Observed, Rollout, condition, rollout, seconds
from .texts import refused, says_the_same
from .transitions import Transition
from .transitions import between as transitions
from .waits import look_again

__all__ = ["Observed", "Outcome", "Transition", "look_again", "of", "refused", "transitions"]

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
    verdict = _judge(outcome, observed, numbers, seconds(now))
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


def _judge(outcome: Outcome, observed: Observed, numbers: Rollout, now: float) -> _Verdict:
    if outcome.problem is not None or outcome.runtime is None:
        cause = outcome.problem or problem("InvalidSpec", "the spec makes no sense")
        return _Verdict(False, cause.reason.stalls, cause)
    runtime = outcome.runtime
    if numbers.is_observed and numbers.wanted == 0 and numbers.replicas == 0:
        return _Verdict(False, False, problem("ScaledToZero", "no pods are wanted (replicas: 0), so nothing serves"))
    if _is_rolled_out(runtime, numbers) and observed.serving:
        return _settled(runtime, observed, now)
    return _unsettled(runtime, observed, numbers, now)


def _is_rolled_out(runtime: ModelRuntime, numbers: Rollout) -> bool:
    """An autoscaler may want more pods or fewer at any time: with it, as many must serve as it may not go below."""
    if runtime.autoscaling is None:
        return numbers.is_complete and numbers.available >= numbers.wanted
    fewest = runtime.wanted_replicas
    are_new = numbers.is_observed and numbers.replicas == numbers.updated
    return are_new and numbers.wanted >= fewest and numbers.available >= fewest


def _settled(runtime: ModelRuntime, observed: Observed, now: float) -> _Verdict:
    text = f"revision {observed.revision} is rolled out, {_serve(observed.serving)}"
    if runtime.autoscaling is not None and (blind := waits.blind(observed, now)):
        return _Verdict(True, False, problem("ScalingInactive", f"{text}; {blind}"))
    return _Verdict(True, False, problem("Available", text))


def _unsettled(runtime: ModelRuntime, observed: Observed, numbers: Rollout, now: float) -> _Verdict:
    failure = failures.find(observed, now)
    is_overdue = condition(observed.deployment, "Progressing").get("reason") == "ProgressDeadlineExceeded"
    if failure is not None:
        late = f" (no progress for {runtime.progress_deadline_seconds} s)" if is_overdue else ""
        return _Verdict(
            False,
            failure.reason.stalls or is_overdue,
            _in_words_of(runtime, failure.reason.word, failure.message + late),
        )
    if (paused := waits.paused(runtime, observed)) and not numbers.is_complete:
        return _Verdict(False, False, problem("Paused", paused))
    what = waits.what(runtime, observed, numbers)
    if is_overdue:
        detail = waits.detail(observed)
        text = f"Deployment {runtime.name}: no progress for {runtime.progress_deadline_seconds} s: {what}; {detail}"
        return _Verdict(False, True, problem("ProgressDeadlineExceeded", text))
    return _Verdict(False, False, problem("Deploying", what))


def _in_words_of(runtime: ModelRuntime, word: str, message: str) -> Problem:
    """A folder of a volume that does not exist is made by the node, empty: the runtime cannot know what was meant."""
    source = runtime.source
    if word == "SourceEmpty" and isinstance(source, Claim) and source.path:
        where = f"PersistentVolumeClaim {source.name}: folder {source.path} does not exist or holds no model"
        return problem("SourceNotFound", f"{where}: {message}")
    return problem(word, message)


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
    same = (before.get("status"), before.get("reason"), before.get("observedGeneration")) == (value, reason, generation)
    is_old = same and reason not in CALM and says_the_same(str(before.get("message", "")), message)
    return {
        "type": kind,
        "status": value,
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if before.get("status") == value else now,
        "reason": reason,
        "message": before["message"] if is_old else message,
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
