"""Whatever happens, in whatever order, between any two calls: in the end the world is what the ModelRuntimes say.

A story is a random sequence of edits, other people's changes and deletions, pods that come up, kills of the operator, and an API
server that refuses and hangs up, before its work or after. When it is over, pure functions alone say how the world must look.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kube import APPLY, MERGE, Denied
from operating import CPU_REQUEST, IMAGE, Operator, World, eventually, runtime
from relay import Fault, Relay

from model_runtime_operator import desired, names, spec, status
from model_runtime_operator.cluster import kinds
from model_runtime_operator.desired import Files, Platform
from model_runtime_operator.status import Observed, Outcome
from model_runtime_operator.vocabulary import Hindered

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(300)]

Object = dict[str, Any]

PLATFORM = Platform(runtime_image=IMAGE)
MODELS = ("ada", "ben", "cleo")
STEPS = 60
QUIET_SECONDS = 75.0  # the longest back-offs after a story's faults
OWNED = ("configmaps", "services", "deployments", "poddisruptionbudgets", "horizontalpodautoscalers", "networkpolicies")
FAULTS = (Fault(0), Fault(0, is_late=True), Fault(409), Fault(429), Fault(500), Fault(500, is_late=True), Fault(503))
# One story a day; `make operator-stories` tells as many as are wanted.
SEEDS = [int(seed) for seed in os.environ.get("STORIES", "31").split(",")]


class Story:
    """What happens. `moved` counts, for each ModelRuntime, what may have rolled its pods since its Deployment was made."""

    def __init__(self, seed: int, world: World, relay: Relay, start: Callable[[], Operator]) -> None:
        self.dice, self.world, self.relay, self._start = random.Random(seed), world, relay, start
        self.operator = start()
        self.told: list[str] = [f"seed {seed}"]
        self.moved: Counter[str] = Counter()
        self._faults = random.Random(seed)
        self._edits = 0

    # What may happen --------------------------------------------------------------------------------------------------

    def step(self) -> None:
        happening = self.dice.choices(
            [
                self.write,
                self.interfere,
                self.play_kubelet,
                self.edit_source,
                self.remove,
                self.forget,
                self.cut,
                self.kill,
            ],
            weights=[6, 8, 6, 2, 1, 1, 2, 1],
        )[0]
        try:
            self.told.append(f"{happening.__name__} {happening() or ''}")
        except Denied as denied:  # the object is gone, or is changing under our hands: as for any other person
            self.told.append(f"{happening.__name__}: {denied}")
            assert denied.status in (404, 409, 422), denied
        time.sleep(self.dice.choice((0.0, 0.05, 0.3, 0.6)))

    def write(self) -> str:
        """A person applies a ModelRuntime: a new one or a changed one."""
        name = self.dice.choice(MODELS)
        changes = self.dice.choice(_CHANGES)(self._number())
        if name == MODELS[0] and "model" not in changes:
            changes["model"] = {"configMap": {"name": "source"}}
        self.world.apply(runtime(name, **changes))
        self.moved[name] += 1
        return f"{name} {changes}"

    def interfere(self) -> str:
        """Somebody changes or deletes an object of ours."""
        ours = self._ours()
        return (
            self._interfere_with(*self.dice.choice(ours), deletes=self.dice.random() < 0.4) if ours else "with nothing"
        )

    def _ours(self) -> list[tuple[str, Object]]:
        return [(kind, each) for kind in OWNED for each in self.world.all(kind) if _label(each)]

    def _interfere_with(self, kind: str, victim: Object, *, deletes: bool) -> str:
        name = victim["metadata"]["name"]
        path = self.world.kube.path(kind, name)
        if deletes:
            self.world.kube.call("DELETE", path)
            self.moved[_label(victim)] += 1
            return f"deletes {kind}/{name}"
        patch = copy.deepcopy(_INTERFERENCE[kind](self._number()))
        self.world.kube.call("PATCH", path, patch, MERGE)
        self.moved[_label(victim)] += 2  # there and back
        return f"changes {kind}/{name} {patch}"

    def edit_source(self) -> str:
        """The source ConfigMap changes, or is gone for a while."""
        self.moved[MODELS[0]] += 1
        if self.dice.random() < 0.3:
            self.world.kube.call("DELETE", self.world.kube.path("configmaps", "source"))
            return "is deleted"
        self.world.apply(source(self._number()))
        return "is changed"

    def play_kubelet(self) -> str:
        """Pods that are to go are gone; of the others, some become ready. The operator is a pod too."""
        self._start_if_ended()
        pods = [each for each in self.world.all("pods") if "deletionTimestamp" not in each["metadata"]]
        self.world.bury()
        self.world.beat()
        chosen = [each for each in pods if self.dice.random() < 0.7]
        for number, pod in enumerate(chosen):
            self.world.come_up(pod, f"198.18.{self.dice.randrange(250)}.{number + 1}")
        return f"{len(chosen)} of {len(pods)} pods come up"

    def forget(self) -> str:
        """History is cleaned up: ReplicaSets of old revisions are deleted, and nobody needs their contracts any more."""
        old = [each["metadata"]["name"] for each in self.world.all("replicasets") if not each["spec"]["replicas"]]
        for name in old:
            self.world.kube.call("DELETE", self.world.kube.path("replicasets", name))
        return f"{len(old)} ReplicaSets"

    def remove(self) -> str:
        name = self.dice.choice(MODELS)
        self.world.kube.call("DELETE", self.world.kube.path("modelruntimes", name))
        return name

    def kill(self) -> None:
        self.operator.kill()
        time.sleep(self.dice.choice((0.0, 0.5)))
        self.operator = self._start()

    def cut(self) -> None:
        self.relay.cut_watches()

    def fault(self, method: str, path: str) -> Fault | None:
        """One call in eight goes wrong; of watches one in four, so that they are cut often and still see something."""
        chance = 0.25 if "watch=" in path else 0.125
        if self._faults.random() > chance:
            return None
        fault = self._faults.choice(FAULTS)
        return Fault(500) if method == "GET" and fault.status == 409 else fault

    def end(self) -> None:
        """Once more everything is disturbed; then no more faults, and an operator that runs."""
        for kind, each in self._ours():
            with contextlib.suppress(Denied):  # it has just gone
                self.told.append(f"in the end {self._interfere_with(kind, each, deletes=False)}")
        self.relay.decide = lambda _method, _path: None
        self._start_if_ended()
        self.operator.wait_ready()
        self.told.append(f"forget {self.forget()}")

    def _start_if_ended(self) -> None:
        """What a kubelet does."""
        if self.operator.process.poll() is not None:
            self.told.append(f"the operator has ended by itself with {self.operator.process.returncode}")
            self.operator = self._start()

    def _number(self) -> int:
        self._edits += 1
        return self._edits


def _label(item: Object) -> str:
    return str(item["metadata"].get("labels", {}).get(names.LABEL, ""))


_CHANGES: tuple[Callable[[int], Object], ...] = (
    lambda n: {},
    lambda n: {"env": [{"name": "N", "value": str(n)}]},
    lambda n: {"replicas": n % 3},
    lambda n: {"autoscaling": {"minReplicas": 1, "maxReplicas": 1 + n % 4}, "resources": CPU_REQUEST},
    lambda n: {"networkPolicy": {}, "replicas": 2},
    lambda n: {"networkPolicy": {"metricsFrom": [{"podSelector": {}}]}, "metrics": {"port": 9500 + n}},
    lambda n: {"strategy": {"rollingUpdate": {"maxSurge": n % 2, "maxUnavailable": 1}}},
    lambda n: {"strategy": {"type": "Recreate"}, "terminationGracePeriodSeconds": 1 + n},
    lambda n: {"service": {"type": ("NodePort", "ClusterIP", "LoadBalancer")[n % 3], "annotations": {"n": str(n)}}},
    lambda n: {"tls": {"secretName": f"s{n}", "clientAuth": ("None", "Require")[n % 2]}, "fsGroup": n},
    lambda n: {
        "volumes": [{"name": "data", "emptyDir": {"sizeLimit": f"{n}Mi"}}],
        "volumeMounts": [{"name": "data", "mountPath": f"/data{n % 3}"}],
        "envFrom": [{"configMapRef": {"name": "settings", "optional": True}}],
        "sharedMemory": f"{n}Mi",
    },
    lambda n: {"paused": True, "env": [{"name": "N", "value": str(n)}]},
    lambda n: {"port": 9000 + n},
    lambda n: {"model": {"inline": {"src/func_main.py": f"N = {n}\n"}}},
    lambda n: {"contract": {"name": f"f{n}", "outputs": {"y": {"shape": [n], "type": "int64"}}}},
    lambda n: {"model": {"configMap": {"name": "source"}}, "podLabels": {"n": str(n)}},
    lambda n: {"requirements": ["numpy"], "initResources": {"limits": {"memory": f"{n}Mi"}}},
    lambda n: {"requirements": [f"numpy>={n}"], "resources": {"requests": {"cpu": f"{n}00m", "memory": "0.5Gi"}}},
    lambda n: {"contract": {"protobin": base64.b64encode(b"\xff" * n).decode()}},  # is no contract
)
_TEMPLATE: Callable[[Object], Object] = lambda spec: {"spec": {"template": {"spec": spec}}}  # noqa: E731
_INTERFERENCE: dict[str, Callable[[int], Object]] = {
    "configmaps": lambda n: {"metadata": {"labels": {"theirs": str(n)}}},
    "services": lambda n: {"spec": {"selector": {names.LABEL: f"other{n}"}}},
    "deployments": lambda n: (
        {"spec": {"replicas": n % 5}} if n % 2 else _TEMPLATE({"terminationGracePeriodSeconds": n})
    ),
    "poddisruptionbudgets": lambda n: {"spec": {"maxUnavailable": n}},
    "horizontalpodautoscalers": lambda n: {"spec": {"maxReplicas": 20 + n}},
    "networkpolicies": lambda n: {"metadata": {"labels": {names.LABEL: None}}},
}


def source(number: int) -> Object:
    data = {"src__func_main.py": f"def predict(x): return {number}\n"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "source"}, "data": data}


# How the world must look in the end --------------------------------------------------------------------------------------


class Judge:
    """Compares one look at the world with what the pure functions say of its ModelRuntimes."""

    def __init__(self, world: World) -> None:
        self._kube = world.kube
        self._live = {kind: world.all(kind) for kind in (*OWNED, "replicasets", "pods", "endpointslices", "events")}
        self._bodies = world.all("modelruntimes")
        self._expected: set[tuple[str, str]] = set()

    def faults(self) -> list[str]:
        found = [fault for body in self._bodies for fault in self._of(body)]
        return [*found, *self._orphans()]

    def _of(self, body: Object) -> Iterator[str]:
        name = body["metadata"]["name"]
        outcome, wanted = self._outcome(body)
        for each in wanted:
            plural = next(kind.plural for kind in kinds.OBSERVED if kind.name == each["kind"])
            live = self._get(plural, each["metadata"]["name"])
            if live is None:
                yield f"{name}: {each['kind']} {each['metadata']['name']} is missing"
            elif self._would_change(plural, each, live):
                yield f"{name}: {each['kind']} {each['metadata']['name']} is not as it should be"
            self._expected.add((plural, each["metadata"]["name"]))
        if outcome.problem is not None:  # what there was stays as it is
            self._expected |= {(kind, one) for kind in OWNED for one in self._names_of(kind, name)}
        said = body.get("status") or {}
        if said.get("observedGeneration") != body["metadata"]["generation"]:
            yield f"{name}: observedGeneration {said.get('observedGeneration')}, generation {body['metadata']['generation']}"
        meant = status.of(body, outcome, self._observed(name), now="-")
        if meant != said:
            differences = {
                key: (said.get(key), meant.get(key)) for key in {*said, *meant} if said.get(key) != meant.get(key)
            }
            yield f"{name}: status says and should say {differences}"

    def _would_change(self, plural: str, wanted: Object, live: Object) -> bool:
        """Whether applying what is wanted would change anything, as the API server sees it."""
        path = self._kube.path(plural, wanted["metadata"]["name"])
        rehearsed = self._kube.call(
            "PATCH", path, wanted, APPLY, fieldManager=names.FIELD_MANAGER, force="true", dryRun="All"
        )
        return bool(_substance(rehearsed) != _substance(live))

    def _outcome(self, body: Object) -> tuple[Outcome, list[Object]]:
        parsed, files = None, None
        try:
            parsed = spec.parse(body)
            if isinstance(parsed.source, spec.ConfigMap):
                files = self._files(parsed)
            wanted = desired.objects(parsed, PLATFORM, files)
        except Hindered as hindered:
            return Outcome(parsed, parsed.promise if parsed else None, hindered.problem), []
        digest = desired.model_digest(parsed, files)
        return Outcome(parsed, desired.contract_of(parsed, files), model_digest=digest), wanted

    def _files(self, parsed: spec.ModelRuntime) -> Files:
        assert isinstance(parsed.source, spec.ConfigMap)
        found = self._get("configmaps", parsed.source.name)
        if found is None:
            message = f"ConfigMap {parsed.source.name}: not found in namespace {parsed.namespace}"
            raise Hindered("SourceNotFound", message)
        content = {key: text.encode() for key, text in found["data"].items()}
        return Files({key: hashlib.sha256(value).hexdigest() for key, value in content.items()}, content=content)

    def _observed(self, name: str) -> Observed:
        deployment = self._get("deployments", name)
        pods, sets = self._of_runtime("pods", name), self._of_runtime("replicasets", name)
        uids = {each["metadata"]["uid"] for each in (*pods, *sets)}
        about = [
            each
            for each in self._live["events"]
            if each["involvedObject"].get("uid") in uids and each["type"] != "Normal"
        ]
        slices = [each for each in self._of_runtime("endpointslices", name) if _service_name(each) == name]
        return Observed(deployment, tuple(sets), tuple(pods), tuple(slices), tuple(about))

    def _orphans(self) -> Iterator[str]:
        """What is labelled as ours and is wanted by nobody: except contracts that a ReplicaSet's pods may still need."""
        volumes = (each["spec"]["template"]["spec"].get("volumes", ()) for each in self._live["replicasets"])
        needed = {("configmaps", one["configMap"]["name"]) for some in volumes for one in some if "configMap" in one}
        there = {
            (kind, one["metadata"]["name"])
            for kind in OWNED
            for one in self._live[kind]
            if names.LABEL in one["metadata"].get("labels", {})
        }
        for kind, name in sorted(there - self._expected - needed):
            yield f"{kind}/{name} is an orphan"

    def _get(self, kind: str, name: str) -> Object | None:
        return next((each for each in self._live[kind] if each["metadata"]["name"] == name), None)

    def _of_runtime(self, kind: str, name: str) -> list[Object]:
        return [each for each in self._live[kind] if _label(each) == name]

    def _names_of(self, kind: str, name: str) -> list[str]:
        return [str(each["metadata"]["name"]) for each in self._of_runtime(kind, name)]


def _service_name(endpoint_slice: Object) -> str:
    return str(endpoint_slice["metadata"]["labels"]["kubernetes.io/service-name"])


def _substance(item: Object) -> Object:
    said = {key: item["metadata"].get(key) for key in ("labels", "ownerReferences")}
    return {
        **{key: value for key, value in item.items() if key not in ("apiVersion", "kind", "metadata", "status")},
        **said,
    }


def versions(world: World) -> dict[str, str]:
    items = [(kind, each["metadata"]) for kind in (*OWNED, "modelruntimes", "replicasets") for each in world.all(kind)]
    return {f"{kind}/{one['name']}": one["resourceVersion"] for kind, one in items}


@pytest.mark.parametrize("seed", SEEDS)
def test_in_the_end_the_world_is_what_the_model_runtimes_say(
    world: World, start: Callable[..., Operator], tmp_path: Path, seed: int
) -> None:
    with Relay(world.api, tmp_path) as relay:
        world.apply(source(0))
        story = Story(seed, world, relay, lambda: start(relay.kubeconfig))
        story.operator.wait_ready()
        relay.decide = story.fault
        for _ in range(STEPS):
            story.step()
        story.end()
        try:
            eventually(lambda: not _faults(world), QUIET_SECONDS, lambda: _faults(world))
            _assert_no_needless_rollout(world, story)
            _assert_silence(world, story, start)
        except BaseException:
            print("\n".join(story.told))
            raise


def _faults(world: World) -> list[str]:
    world.bury()
    world.beat()
    return Judge(world).faults()


def _assert_no_needless_rollout(world: World, story: Story) -> None:
    """No more revisions than somebody's edits account for: no fault, kill or repetition has rolled a pod."""
    for each in world.all("deployments"):
        revision = int(each["metadata"]["annotations"].get("deployment.kubernetes.io/revision", 0))
        assert revision <= story.moved[each["metadata"]["name"]], each["metadata"]["name"]


def _assert_silence(world: World, story: Story, start: Callable[..., Operator]) -> None:
    """Now nothing is written any more, by this operator or by one that begins anew."""
    story.operator.await_quiet()
    before = versions(world)
    story.operator.kill()
    fresh = start()
    fresh.wait_ready()
    count = len(world.all("modelruntimes"))
    eventually(lambda: fresh.metric("model_runtime_operator_reconciles_total") >= count)
    time.sleep(1)
    after = versions(world)
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} == set()
    assert fresh.writes == 0
