"""Two replicas of the operator and one Lease: who leads, how fast another follows, and that never two write.

Each replica has a way of its own to the API server, on which every write is noted: what is claimed about writes is what came by.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from operating import Operator, World, eventually, runtime
from relay import Relay

from model_runtime_operator.cluster.lease import DURATION

pytestmark = pytest.mark.apiserver

HAND_OVER_SECONDS = 15.0  # the promise for a leader that is gone without a word
FAREWELL_SECONDS = 6.0  # one that is stopped gives the Lease up; the other asks every two seconds


class Replica:
    """An operator and the way on which its writes are noted."""

    def __init__(self, operator: Operator, relay: Relay) -> None:
        self.operator, self.relay = operator, relay

    @property
    def is_leading(self) -> bool:
        return self.operator.metric("model_runtime_operator_leading") == 1

    def signal(self, number: int) -> None:
        self.operator.process.send_signal(number)


@pytest.fixture
def pair(world: World, start: Callable[..., Operator], tmp_path: Path) -> Iterator[tuple[Replica, Replica]]:
    """The one that leads, and the one that waits."""
    with Relay(world.api, tmp_path) as one, Relay(world.api, tmp_path) as other:
        lease = {"LEADER_ELECTION": "true", "POD_NAMESPACE": world.namespace}
        replicas = []
        for name, relay in (("one", one), ("other", other)):
            replicas.append(Replica(start(relay.kubeconfig, POD_NAME=name, **lease), relay))
            replicas[-1].operator.wait_ready()
            eventually(lambda: any(each.is_leading for each in replicas))
        assert [each.is_leading for each in replicas] == [True, False]
        yield replicas[0], replicas[1]
        for each in replicas:
            if each.operator.process.poll() is None:
                each.signal(signal.SIGCONT)
                each.operator.kill()


def many(count: int, value: str = "") -> list[dict[str, object]]:
    return [runtime(f"m{number:02}", env=[{"name": "A", "value": value}]) for number in range(count)]


def holder(world: World) -> tuple[str, int]:
    spec = world.get("lease", "model-runtime-operator").get("spec") or {}
    return str(spec.get("holderIdentity")), int(spec.get("leaseTransitions") or 0)


def assert_one_after_the_other(first: Replica, second: Replica) -> None:
    """The second began to write when the first had ended, and nothing was written twice."""
    assert first.relay.writes
    assert second.relay.writes
    assert max(each.ended for each in first.relay.writes) < min(each.began for each in second.relay.writes)
    applied = Counter(each.path for each in (*first.relay.writes, *second.relay.writes) if "/deployments/" in each.path)
    assert set(applied.values()) == {1}, applied


def test_one_replica_writes_and_the_other_is_ready_and_waits(world: World, pair: tuple[Replica, Replica]) -> None:
    leader, waiting = pair
    world.apply(*many(3))
    for number in range(3):
        world.await_reason(f"m{number:02}", "Deploying")

    assert holder(world) == ("one", 0)
    assert leader.operator.writes > 0
    assert waiting.operator.probe("readyz") == 200
    assert waiting.operator.writes == 0
    assert waiting.relay.writes == []


def test_a_leader_that_is_stopped_is_followed_at_once(world: World, pair: tuple[Replica, Replica]) -> None:
    leader, waiting = pair
    world.apply(*many(1))
    world.await_reason("m00", "Deploying")

    stopped = time.monotonic()
    assert leader.operator.stop() == 0
    world.apply(runtime("after"))
    eventually(lambda: waiting.relay.writes, FAREWELL_SECONDS + 5)

    assert waiting.relay.writes[0].began - stopped < FAREWELL_SECONDS
    assert holder(world) == ("other", 1)
    world.await_reason("after", "Deploying")
    assert_one_after_the_other(leader, waiting)


def test_a_leader_that_is_killed_amid_its_work_is_followed_and_nothing_is_done_twice(
    world: World, pair: tuple[Replica, Replica]
) -> None:
    leader, waiting = pair
    world.apply(*many(20))
    eventually(lambda: len(leader.relay.writes) > 30)

    leader.operator.kill()
    killed = time.monotonic()
    eventually(lambda: waiting.relay.writes, HAND_OVER_SECONDS + 5)

    assert waiting.relay.writes[0].began - killed < HAND_OVER_SECONDS
    eventually(lambda: _reasons(world) == {"Deploying"}, 20, lambda: _reasons(world))
    assert_one_after_the_other(leader, waiting)
    assert {each["metadata"]["generation"] for each in world.all("deployments")} == {1}


@pytest.mark.parametrize("how", ["frozen", "cut off"])
def test_a_leader_that_comes_back_too_late_writes_nothing_more(
    world: World, pair: tuple[Replica, Replica], how: str
) -> None:
    leader, waiting = pair
    world.apply(*many(3, "before"))
    eventually(lambda: _reasons(world) == {"Deploying"})

    gone = time.monotonic()
    leader.signal(signal.SIGSTOP) if how == "frozen" else leader.relay.cut()
    world.apply(*many(3, "while it was away"))
    eventually(lambda: waiting.relay.writes, HAND_OVER_SECONDS + 5)
    assert waiting.relay.writes[0].began - gone < HAND_OVER_SECONDS
    eventually(lambda: _generations(world) == {2})

    leader.signal(signal.SIGCONT) if how == "frozen" else leader.relay.mend()
    world.apply(*many(3, "after it came back"))
    eventually(lambda: _generations(world) == {3})
    eventually(lambda: leader.operator.probe("healthz") == 200 and not leader.is_leading)
    time.sleep(2)  # time to do wrong

    assert max(each.ended for each in leader.relay.writes) < min(each.began for each in waiting.relay.writes)
    assert holder(world) == ("other", 1)


@pytest.mark.parametrize("spec", [None, {}, {"holderIdentity": None, "leaseTransitions": None}])
def test_a_lease_that_says_nothing_is_taken(
    world: World, start: Callable[..., Operator], spec: dict[str, object] | None
) -> None:
    lease: dict[str, object] = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "model-runtime-operator", "namespace": world.namespace},
    }
    world.apply({**lease, **({} if spec is None else {"spec": spec})})
    start(world.api.kubeconfig, POD_NAME="one", LEADER_ELECTION="true", POD_NAMESPACE=world.namespace)
    eventually(lambda: holder(world)[0] == "one", 15)


@pytest.mark.parametrize("pod_exists", [False, True])
def test_a_leader_whose_pod_is_gone_is_followed_before_its_lease_ends(
    world: World, start: Callable[..., Operator], pod_exists: bool
) -> None:
    uid = "00000000-0000-0000-0000-000000000000"
    if pod_exists:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "leader", "namespace": world.namespace}}
        world.apply({**pod, "spec": {"containers": [{"name": "c", "image": "i"}]}})
        uid = world.get("pod", "leader")["metadata"]["uid"]
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    metadata = {
        "name": "model-runtime-operator",
        "namespace": world.namespace,
        "annotations": {"runtime.hydrosphere.io/holder-pod": uid},
    }
    spec = {"holderIdentity": "leader", "leaseDurationSeconds": 10, "acquireTime": now, "renewTime": now}
    world.apply({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec})

    operator = start(world.api.kubeconfig, POD_NAME="one", LEADER_ELECTION="true", POD_NAMESPACE=world.namespace)
    operator.wait_ready()
    began = time.monotonic()
    eventually(lambda: holder(world)[0] == "one", HAND_OVER_SECONDS + 5)

    waited = time.monotonic() - began  # the Lease was seen for the first time before the operator was ready
    assert waited > DURATION - 3 if pod_exists else waited < DURATION - 1


def _reasons(world: World) -> set[str]:
    conditions = [(each.get("status") or {}).get("conditions") or [{}] for each in world.all("mr")]
    return {str(each[0].get("reason")) for each in conditions}


def _generations(world: World) -> set[int]:
    return {int(each["metadata"]["generation"]) for each in world.all("deployments")}
