"""What tools that know kstatus read in our status: Flux, Argo CD, kpt, and `helm install --wait` since Helm 4.

`kstatus` is the rule of cli-utils for objects of a kind that it does not know by name, in the order in which its library looks.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from kube import Denied
from operating import Operator, World, eventually, runtime

from cluster import binaries
from model_runtime_operator import spec, status
from model_runtime_operator.status import Observed, Outcome
from model_runtime_operator.vocabulary import CATALOGUE, CONDITIONS, Reason, problem

NOW = "2026-01-01T00:00:00Z"
CURRENT, IN_PROGRESS, FAILED, TERMINATING = "Current", "InProgress", "Failed", "Terminating"


def kstatus(item: Mapping[str, Any]) -> str:
    metadata, seen = item["metadata"], item.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return TERMINATING
    if "generation" in metadata and seen.get("observedGeneration", metadata["generation"]) != metadata["generation"]:
        return IN_PROGRESS
    conditions = [(each["type"], each["status"]) for each in seen.get("conditions") or ()]
    for each in conditions:  # the first of the two in the object's own order
        if each in (("Reconciling", "True"), ("Stalled", "True")):
            return IN_PROGRESS if each[0] == "Reconciling" else FAILED
    ready = next((value for kind, value in conditions if kind == "Ready" and value in ("True", "False", "Unknown")), "")
    return IN_PROGRESS if ready in ("False", "Unknown") else CURRENT


def made(
    generation: int | None = 1, observed: int | None = 1, deleted: bool = False, **conditions: str
) -> dict[str, Any]:
    """An object as kstatus looks at it."""
    metadata: dict[str, Any] = {"name": "x"}
    if generation is not None:
        metadata["generation"] = generation
    if deleted:
        metadata["deletionTimestamp"] = NOW
    seen: dict[str, Any] = {"conditions": [{"type": kind, "status": value} for kind, value in conditions.items()]}
    if observed is not None:
        seen["observedGeneration"] = observed
    return {"metadata": metadata, "status": seen}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"metadata": {"generation": 1}}, CURRENT),  # why our CRD gives a new object a status
        ({"metadata": {"generation": 1}, "status": {"observedGeneration": -1}}, IN_PROGRESS),
        (made(observed=None), CURRENT),
        (made(), CURRENT),
        (made(generation=2, observed=1), IN_PROGRESS),
        (made(generation=2, observed=1, Ready="True"), IN_PROGRESS),
        (made(generation=2, observed=1, Stalled="True"), IN_PROGRESS),
        (made(generation=1, observed=2), IN_PROGRESS),
        (made(generation=None, observed=1, Ready="True"), CURRENT),
        (made(Ready="True"), CURRENT),
        (made(Ready="False"), IN_PROGRESS),
        (made(Ready="Unknown"), IN_PROGRESS),
        (made(Ready="Whatever"), CURRENT),
        (made(Reconciling="True"), IN_PROGRESS),
        (made(Reconciling="False", Ready="True"), CURRENT),
        (made(Reconciling="True", Ready="True"), IN_PROGRESS),
        (made(Stalled="True"), FAILED),
        (made(Stalled="True", Ready="False"), FAILED),
        (made(Stalled="False", Ready="False"), IN_PROGRESS),
        (made(Stalled="True", Reconciling="True"), FAILED),
        (made(Reconciling="True", Stalled="True"), IN_PROGRESS),
        (made(Progressing="True", Ready="True"), CURRENT),  # means nothing to it
        (made(Available="True", Ready="False"), IN_PROGRESS),
        (made(deleted=True, Stalled="True"), TERMINATING),
        (made(generation=2, observed=1, deleted=True), TERMINATING),
    ],
)
def test_the_rules_are_those_of_cli_utils(item: dict[str, Any], expected: str) -> None:
    assert kstatus(item) == expected


@pytest.fixture(scope="module")
def library() -> Callable[[Sequence[Mapping[str, Any]]], list[str]]:
    """cli-utils itself, as a program that reads objects and prints what each is."""
    program = binaries.find(["kstatus"])["kstatus"]

    def judge(items: Sequence[Mapping[str, Any]]) -> list[str]:
        text = json.dumps(
            [{"apiVersion": "runtime.hydrosphere.io/v1alpha1", "kind": "ModelRuntime", **each} for each in items]
        )
        done = subprocess.run([program], input=text, capture_output=True, text=True, check=True)
        return [line.partition("\t")[0] for line in done.stdout.splitlines()]

    return judge


@pytest.mark.apiserver
def test_the_library_says_the_same_of_every_mixture(
    library: Callable[[Sequence[Mapping[str, Any]]], list[str]],
) -> None:
    answers = [
        *itertools.product(("Ready",), ("True", "False", "Unknown")),
        *itertools.product(("Reconciling", "Stalled"), ("True", "False")),
    ]
    mixtures = [dict(some) for count in range(4) for some in itertools.permutations(answers, count)]
    ages = ((1, 1, False), (2, 1, False), (1, None, False), (None, 1, False), (1, -1, True))
    items = [
        made(generation, observed, deleted, **mixture) for mixture in mixtures for generation, observed, deleted in ages
    ]

    assert library(items) == [kstatus(each) for each in items]


# Our status, judged by them --------------------------------------------------------------------------------------------


def judged(outcome: Outcome, observed: Observed, generation: int = 1) -> dict[str, Any]:
    """The ModelRuntime with the status that we would write. Holds what must be so in every state."""
    body = {**runtime(), "metadata": {"name": "adder", "namespace": "default", "generation": generation}}
    item = {**body, "status": status.of(body, outcome, observed, now=NOW)}
    conditions = item["status"]["conditions"]
    assert [each["type"] for each in conditions] == list(CONDITIONS)
    assert {each["observedGeneration"] for each in conditions} == {generation}
    orders = itertools.permutations(conditions)
    assert len({kstatus({**item, "status": {**item["status"], "conditions": order}}) for order in orders}) == 1
    return item


def parsed(**changes: Any) -> spec.ModelRuntime:
    body = runtime(**changes)
    return spec.parse({**body, "metadata": {"name": "adder", "namespace": "default", "uid": "1", "generation": 1}})


def deployment(
    wanted: int = 1, updated: int = 1, ready: int = 1, total: int = 1, *, lag: int = 0, **more: Any
) -> Observed:
    """A Deployment in some state, with a Service that has as many addresses as there are ready pods."""
    seen = {"replicas": total, "updatedReplicas": updated, "readyReplicas": ready, "availableReplicas": ready}
    conditions = [{"type": kind, "status": "False", "reason": reason} for kind, reason in more.items()]
    return Observed(
        deployment={
            "metadata": {"name": "adder", "generation": 2, "annotations": {"deployment.kubernetes.io/revision": "1"}},
            "spec": {"replicas": wanted},
            "status": {**seen, "observedGeneration": 2 - lag, "conditions": conditions},
        },
        endpoint_slices=({"endpoints": [{"conditions": {"ready": True}}] * ready},),
    )


LATE = {"Progressing": "ProgressDeadlineExceeded"}
STATES: dict[str, tuple[spec.ModelRuntime, Observed, str]] = {
    "nothing is there yet": (parsed(), Observed(), IN_PROGRESS),
    "the Deployment is not observed": (parsed(), deployment(lag=1), IN_PROGRESS),
    "no pod is ready": (parsed(), deployment(ready=0), IN_PROGRESS),
    "old and new pods are there": (parsed(), deployment(wanted=2, updated=1, ready=2, total=3), IN_PROGRESS),
    "old pods are ending": (parsed(), deployment(wanted=1, updated=1, ready=1, total=2), IN_PROGRESS),
    "rolled out": (parsed(), deployment(), CURRENT),
    "too late": (parsed(), deployment(ready=0, **LATE), FAILED),
    "too late, and the old revision serves": (
        parsed(),
        deployment(wanted=2, updated=1, ready=2, total=3, **LATE),
        FAILED,
    ),
    "scaled to zero": (parsed(replicas=0), deployment(0, 0, 0, 0), IN_PROGRESS),
    "paused, and rolled out": (parsed(paused=True), deployment(), CURRENT),
    "paused, and not rolled out": (parsed(paused=True), deployment(updated=0), IN_PROGRESS),
}


@pytest.mark.parametrize("state", STATES)
def test_kstatus_and_our_conditions_say_the_same(state: str) -> None:
    model_runtime, observed, expected = STATES[state]

    item = judged(Outcome(model_runtime), observed)

    answers = {each["type"]: each["status"] for each in item["status"]["conditions"]}
    assert kstatus(item) == expected
    assert (answers["Ready"] == "True") == (expected == CURRENT)
    assert (answers["Stalled"] == "True") == (expected == FAILED)


@pytest.mark.parametrize("observed", [Observed(), deployment()], ids=["nothing serves", "an old revision serves"])
@pytest.mark.parametrize("reason", [each for each in CATALOGUE if each.stalls], ids=str)
def test_what_will_not_move_without_help_has_failed(reason: Reason, observed: Observed) -> None:
    item = judged(Outcome(parsed(), problem=problem(reason.word, "why")), observed)

    assert kstatus(item) == FAILED


def test_what_may_heal_by_itself_is_in_progress() -> None:
    words = [each.word for each in CATALOGUE if not each.stalls and not each.word[0].islower()]
    hindrances = [word for word in words if word not in ("Available", "RolledOut", "NotStalled", "Accepted", "Unknown")]

    for word in hindrances:
        assert kstatus(judged(Outcome(parsed(), problem=problem(word, "why")), Observed())) == IN_PROGRESS, word


# On the real API server ------------------------------------------------------------------------------------------------


def read(world: World) -> str:
    return kstatus(world.get("mr", "adder"))


def kubectl_wait(world: World, seconds: int) -> bool:
    """Whether `kubectl wait` sees Ready within the time."""
    try:
        world.kubectl("wait", "mr/adder", "--for=condition=Ready", f"--timeout={seconds}s")
    except subprocess.CalledProcessError as error:
        assert "timed out" in error.stderr
        return False
    return True


@pytest.mark.apiserver
def test_nothing_is_current_before_the_operator_has_seen_it(world: World, start: Callable[..., Operator]) -> None:
    world.apply(runtime())
    assert read(world) == IN_PROGRESS
    assert not kubectl_wait(world, 1)

    first = start()
    first.wait_ready()
    world.serve("adder")
    assert kubectl_wait(world, 15)
    eventually(lambda: read(world) == CURRENT)
    first.kill()

    world.apply(runtime(env=[{"name": "A", "value": "1"}]))  # nobody is there to see it
    assert world.condition("adder", "Ready")["status"] == "True"
    assert read(world) == IN_PROGRESS
    assert not kubectl_wait(world, 1)  # kubectl, too, looks at the condition's generation


@pytest.mark.apiserver
def test_each_state_of_a_life_reads_as_it_should(world: World, operator: Operator) -> None:
    world.apply(runtime())
    world.await_reason("adder", "Deploying")
    assert read(world) == IN_PROGRESS

    world.serve("adder")
    eventually(lambda: read(world) == CURRENT)

    missing = {"configMap": {"name": "missing"}}
    world.apply(runtime(model=missing))
    world.await_reason("adder", "SourceNotFound")
    assert read(world) == FAILED
    assert world.condition("adder", "Available")["status"] == "True"  # the old revision goes on serving

    world.apply(runtime())
    eventually(lambda: read(world) == CURRENT)

    world.apply(runtime(replicas=0))
    world.await_reason("adder", "ScaledToZero")
    assert read(world) == IN_PROGRESS

    world.kubectl("delete", "mr/adder", "--cascade=foreground", "--wait=false")
    eventually(lambda: _read_or_gone(world) in (TERMINATING, "gone"), 5)
    eventually(lambda: _read_or_gone(world) == "gone", 30, lambda: json.dumps(world.all("mr"))[:2000])


def _read_or_gone(world: World) -> str:
    try:
        return read(world)
    except Denied as error:
        assert error.status == 404
        return "gone"
