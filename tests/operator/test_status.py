"""The status as a judgement of what was observed: which of several pods speaks, what is news, and what numbers mean."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from typing import Any

import pytest
from operating import CPU_REQUEST, Operator, World, eventually, runtime

from model_runtime_operator import spec, status
from model_runtime_operator.status import Observed, Outcome
from model_runtime_operator.status.texts import last_words, refused, says_the_same

NOW = "2026-01-01T12:00:00Z"
REVISION = {"deployment.kubernetes.io/revision": "1"}
OWNER = [{"uid": "rs"}]


def at(time: str) -> str:
    return f"2026-01-01T{time}Z"


def parsed(**changes: Any) -> spec.ModelRuntime:
    return spec.parse({**runtime(**changes), "metadata": {"name": "adder", "namespace": "default", "uid": "1"}})


def pod(name: str, *, born: str = "11:59:00", gone: bool = False, **state: Any) -> dict[str, Any]:
    """A pod of the latest revision."""
    metadata: dict[str, Any] = {"name": name, "uid": name, "creationTimestamp": at(born), "ownerReferences": OWNER}
    if gone:
        metadata["deletionTimestamp"] = NOW
    return {"metadata": metadata, "spec": {"nodeName": "n1"}, "status": {"phase": "Running", **state}}


def container(*, ready: bool = False, **more: Any) -> list[dict[str, Any]]:
    return [{"name": "runtime", "ready": ready, **more}]


def seen(*pods: dict[str, Any], wanted: int = 1, **more: Any) -> Observed:
    """A Deployment that is being rolled out, with those pods."""
    numbers = {"replicas": wanted, "updatedReplicas": wanted, **more.pop("numbers", {})}
    events = more.pop("events", ())
    deployment = {
        "metadata": {"name": "adder", "generation": 1, "annotations": REVISION},
        "spec": {"replicas": wanted, **more},
        "status": {**numbers, "observedGeneration": 1},
    }
    replica_set = {"metadata": {"name": "adder-1", "uid": "rs", "annotations": REVISION}}
    return Observed(deployment, (replica_set,), tuple(pods), events=tuple(events))


def ready(observed: Observed, previous: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The Ready condition."""
    body = {"metadata": {"name": "adder", "generation": 1}, "status": previous or {}}
    conditions = status.of(body, Outcome(parsed(**changes)), observed, now=NOW)["conditions"]
    [found] = [each for each in conditions if each["type"] == "Ready"]
    return dict(found)


def said(observed: Observed, **changes: Any) -> tuple[str, str]:
    found = ready(observed, **changes)
    return found["reason"], found["message"]


# Which pod speaks ------------------------------------------------------------------------------------------------------

UNSCHEDULED = [{"type": "PodScheduled", "status": "False", "message": "3 Insufficient cpu"}]
EVICTION = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
ENDED = {"terminated": {"exitCode": 7, "message": "ModelCrashed: it fell over", "startedAt": at("11:58:00")}}
CRASHED = {"containerStatuses": container(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=ENDED)}
STARTING = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]}


def test_a_pod_that_was_evicted_does_not_mask_what_keeps_its_successor() -> None:
    evicted, waiting = pod("a", born="11:00:00", **EVICTION), pod("b", conditions=UNSCHEDULED)

    assert said(seen(evicted, waiting)) == ("Unschedulable", "pod b: 3 Insufficient cpu")


def test_an_eviction_is_told_until_a_successor_has_begun() -> None:
    old = pod(
        "a", born="10:00:00", conditions=[{"type": "Ready", "status": "True", "lastTransitionTime": at("10:00:09")}]
    )
    evicted = pod("b", born="11:58:00", **EVICTION)
    starting = pod("c", **STARTING)
    begun = pod("c", containerStatuses=container(state={"running": {"startedAt": at("11:59:30")}}, started=True))

    assert said(seen(old, evicted, starting, wanted=2))[0] == "Evicted"
    assert said(seen(old, evicted, begun, wanted=2))[0] == "Deploying"
    assert said(seen(pod("b", born="09:00:00", **EVICTION), starting))[0] == "Deploying"  # long ago


def test_a_pod_that_is_being_deleted_is_not_judged() -> None:
    assert said(seen(pod("a", gone=True, **CRASHED), pod("b", **STARTING)))[0] == "Deploying"
    assert said(seen(pod("a", **CRASHED), pod("b", **STARTING)))[0] == "ModelCrashed"


def test_an_end_before_the_pod_was_ready_explains_nothing() -> None:
    running = {"running": {"startedAt": at("11:00:00")}}
    statuses = container(state=running, lastState=ENDED, started=True)
    turned = [{"type": "Ready", "status": "False", "lastTransitionTime": at("11:59:50")}]

    assert said(seen(pod("a", containerStatuses=statuses, conditions=turned)))[0] == "Deploying"
    assert said(seen(pod("a", containerStatuses=statuses)))[0] == "ModelCrashed"


def test_probes_of_an_earlier_life_and_of_another_container_say_nothing_of_this_one() -> None:
    def event(when: str, field: str = "spec.containers{runtime}") -> dict[str, Any]:
        about = {"kind": "Pod", "name": "a", "uid": "a", "fieldPath": field}
        return {
            "reason": "Unhealthy",
            "message": "Liveness probe failed: x",
            "lastTimestamp": at(when),
            "involvedObject": about,
        }

    alive = pod("a", containerStatuses=container(state={"running": {"startedAt": at("11:59:30")}}, started=True))

    assert said(seen(alive, events=[event("11:59:50")])) == (
        "ProbeFailed",
        "pod a: container runtime: Liveness probe failed: x",
    )
    assert said(seen(alive, events=[event("11:59:00")]))[0] == "Deploying"
    assert said(seen(alive, events=[event("11:59:50", "spec.containers{sidecar}")]))[0] == "Deploying"


def test_a_readiness_gate_that_is_closed_is_no_lost_node() -> None:
    conditions = [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]
    silent = pod("a", conditions=conditions)
    gated = {**silent, "spec": {**silent["spec"], "readinessGates": [{"conditionType": "x"}]}}

    assert said(seen(silent)) == ("NodeLost", "pod a on node n1: the node does not answer")
    assert said(seen(gated))[0] == "Deploying"


def test_a_folder_of_a_claim_that_the_node_has_made_is_a_source_that_was_not_found() -> None:
    ended = {
        "terminated": {
            "exitCode": 3,
            "message": "SourceEmpty: /model/files/src/func_main.py: expected the model's code",
        }
    }
    empty = pod("a", containerStatuses=container(state=ended))
    claim = {"persistentVolumeClaim": {"claimName": "models", "path": "digits/4"}}

    reason, message = said(seen(empty), model=claim)

    assert reason == "SourceNotFound"
    assert "PersistentVolumeClaim models: folder digits/4 does not exist or holds no model" in message
    assert said(seen(empty))[0] == "SourceEmpty"


# What numbers mean -----------------------------------------------------------------------------------------------------

SCALED: dict[str, Any] = {"autoscaling": {"minReplicas": 2, "maxReplicas": 5}, "resources": CPU_REQUEST}
SERVING = {"endpoints": [{"conditions": {"ready": True}}]}


def scaled(wanted: int, available: int, updated: int | None = None, replicas: int | None = None) -> Observed:
    numbers = {"availableReplicas": available, "readyReplicas": available}
    numbers |= {"replicas": replicas if replicas is not None else wanted, "updatedReplicas": updated or wanted}
    return dataclasses.replace(seen(pod("a"), wanted=wanted, numbers=numbers), endpoint_slices=(SERVING,))


def test_with_an_autoscaler_as_many_must_serve_as_it_may_not_go_below() -> None:
    assert said(scaled(1, 1), **SCALED) == ("Deploying", "the autoscaler has not asked for its minReplicas yet: 1 of 2")
    assert said(scaled(2, 1), **SCALED)[0] == "Deploying"
    assert said(scaled(2, 2), **SCALED)[0] == "Available"
    assert said(scaled(4, 2, updated=2, replicas=2), **SCALED)[0] == "Available"  # it asks for more: nothing is amiss
    assert said(scaled(3, 3, updated=2, replicas=3), **SCALED)[0] == "Deploying"  # a new revision


@pytest.mark.parametrize(
    ("replicas", "words"),
    [(2, "1 pod of an older revision is still ending"), (3, "2 pods of older revisions are still ending")],
)
def test_pods_that_end_are_counted_in_grammatical_english(replicas: int, words: str) -> None:
    numbers = {"replicas": replicas, "updatedReplicas": 1, "availableReplicas": 1}

    assert said(seen(pod("a"), numbers=numbers)) == ("Deploying", words)


def test_an_autoscaler_without_metrics_is_told_once_it_is_no_longer_new() -> None:
    def blind(since: str) -> Observed:
        active = {
            "type": "ScalingActive",
            "status": "False",
            "reason": "FailedGetResourceMetric",
            "message": "no metrics",
        }
        return dataclasses.replace(
            scaled(2, 2), autoscaler={"status": {"conditions": [{**active, "lastTransitionTime": at(since)}]}}
        )

    told = ready(blind("11:50:00"), **SCALED)

    assert (told["status"], told["reason"]) == ("True", "ScalingInactive")
    assert told["message"].endswith("its HorizontalPodAutoscaler does not scale: FailedGetResourceMetric: no metrics")
    assert ready(blind("11:59:00"), **SCALED)["reason"] == "Available"
    assert status.look_again(blind("11:59:00"), NOW) == 61.0
    assert status.look_again(blind("11:50:00"), NOW) is None


# What is news ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0/3 nodes are available: 3 Insufficient cpu.", "0/5 nodes are available: 5 Insufficient cpu."),
        ("..2026_11_28_06_40_02.1234/src: is a directory", "..2026_11_28_06_41_00.99/src: is a directory"),
        ("back-off 10s restarting", "back-off 5m0s restarting".replace("5m0s", "20s")),
        ("sandbox 3f2a9c0d11223344 not found", "sandbox ab12cd34ef56ab78 not found"),
        ("read tcp 10.0.0.1:40312->10.0.0.5:9090: reset", "read tcp 10.0.0.1:51002->10.0.0.5:9090: reset"),
        ("<object at 0x7f3a2b1c>", "<object at 0x7fffab00>"),
        ("pods/1b4e28ba-2fa1-11d2-883f-0016d3cca427/x", "pods/6ba7b810-9dad-11d1-80b4-00c04fd430c8/x"),
        ("took 1.234s", "took 12.5s"),
        ("2026-11-28T06:40:02.123Z fatal", "2026-11-29T17:01:59.001Z fatal"),
    ],
)
def test_what_changes_with_each_try_is_no_news(old: str, new: str) -> None:
    assert says_the_same(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pod adder-6c9f-2x4kq: ended", "pod adder-6c9f-9zbbt: ended"),
        ("pod adder-6c9f-22222: ended", "pod adder-6c9f-44444: ended"),
        ("Insufficient cpu", "Insufficient memory"),
    ],
)
def test_another_thing_is_news(old: str, new: str) -> None:
    assert not says_the_same(old, new)


def test_a_status_that_says_the_same_is_the_same_and_a_new_generation_is_said_anew() -> None:
    def waiting(count: int) -> Observed:
        text = f"0/{count} nodes are available: {count} Insufficient cpu."
        return seen(pod("a", conditions=[{"type": "PodScheduled", "status": "False", "message": text}]))

    body: dict[str, Any] = {"metadata": {"name": "adder", "generation": 1}}
    first = status.of(body, Outcome(parsed()), waiting(3), now=NOW)
    again = status.of({**body, "status": first}, Outcome(parsed()), waiting(5), now=at("13:00:00"))
    newer = {"metadata": {"name": "adder", "generation": 2}, "status": first}

    assert again == first
    assert "0/5 nodes" in str(status.of(newer, Outcome(parsed()), waiting(5), now=NOW))


# What the API server refuses ---------------------------------------------------------------------------------------------

FORBIDDEN = 'pods "adder-1" is forbidden: '


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (FORBIDDEN + "exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1", "QuotaExceeded"),
        (FORBIDDEN + "failed quota: small: must specify limits.cpu for: runtime", "QuotaExceeded"),
        (FORBIDDEN + "maximum memory usage per Container is 1Gi, but limit is 2Gi", "QuotaExceeded"),
        (
            FORBIDDEN
            + "[maximum cpu usage per Container is 1, but limit is 2, minimum memory usage per Container is 1Gi]",
            "QuotaExceeded",
        ),
        (
            FORBIDDEN + "cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000",
            "QuotaExceeded",
        ),
        (FORBIDDEN + 'violates PodSecurity "restricted:latest": privileged', "AdmissionDenied"),
        (FORBIDDEN + "ValidatingAdmissionPolicy 'p' denied request: exceeded quota of models", "AdmissionDenied"),
        ('admission webhook "w" denied the request: maximum cpu usage per team is 3', "AdmissionDenied"),
        (FORBIDDEN + 'error looking up service account x/y: serviceaccount "y" not found', "AdmissionDenied"),
    ],
)
def test_what_is_forbidden_is_a_limit_or_a_policy_by_who_says_it(text: str, word: str) -> None:
    assert refused(403, text) == word


def test_a_long_message_begins_with_a_whole_word() -> None:
    text = " ".join(f"word{number}" for number in range(1000))

    assert last_words("short and whole") == "short and whole"
    assert re.fullmatch(r"word\d+( word\d+)*", last_words(text))
    assert re.fullmatch(r"line \d+(\nline \d+)*", last_words("\n".join(f"line {number}" for number in range(1000))))
    assert len(last_words(text)) <= 1000
    assert last_words("x" * 3000) == "x" * 1000


# With the real controllers -----------------------------------------------------------------------------------------------


@pytest.mark.apiserver
def test_a_deployment_that_kubectl_has_paused_is_called_so(world: World, operator: Operator) -> None:
    world.apply(runtime())
    world.serve("adder")
    world.await_reason("adder", "Available")
    world.kubectl("rollout", "pause", "deployment/adder")
    world.apply(runtime(env=[{"name": "A", "value": "1"}]))

    told = world.await_reason("adder", "Paused")

    assert "kubectl rollout resume deployment/adder" in told["message"]
    assert world.condition("adder", "Available")["status"] == "True"
    world.kubectl("rollout", "resume", "deployment/adder")
    world.serve("adder", 2)
    world.await_reason("adder", "Available", 20)


@pytest.mark.apiserver
def test_a_limit_range_with_two_violations_is_a_limit(world: World, operator: Operator) -> None:
    limits = {"limits": [{"type": "Container", "max": {"cpu": "100m", "memory": "16Mi"}}]}
    limit_range = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"}, "spec": limits}
    world.kubectl("create", "-f", "-", text=json.dumps(limit_range))
    world.apply(runtime(resources={"limits": {"cpu": "1", "memory": "1Gi"}}))

    told = world.await_reason("adder", "QuotaExceeded")

    assert "maximum cpu usage" in told["message"]
    assert "maximum memory usage" in told["message"]
    assert world.condition("adder", "Stalled")["status"] == "False"


@pytest.mark.apiserver
def test_an_autoscaled_model_is_not_ready_before_its_fewest_pods_serve(world: World, operator: Operator) -> None:
    world.apply(runtime(**SCALED))
    world.serve("adder")
    served_by = []
    end = time.monotonic() + 60
    while time.monotonic() < end and not served_by:
        pods = world.all("pods")
        if world.condition("adder", "Ready").get("status") == "True":
            served_by = pods
        elif len(pods) == 2:
            world.serve("adder", 2)
        time.sleep(0.3)

    assert len(served_by) == 2
    eventually(lambda: world.get("mr", "adder")["status"]["readyReplicas"] == 2)
    assert world.get("deployment", "adder")["spec"]["replicas"] >= 2
