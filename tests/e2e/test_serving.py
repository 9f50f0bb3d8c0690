"""Models on a real node: applied, asked, scaled, changed under load; and nothing left when they are deleted."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from living import DOUBLE, Place, doubler
from operating import SAMPLES, eventually

from cluster.access import Access
from cluster.images import version
from model_runtime.client import Client
from model_runtime.contract import DataType
from model_runtime.tensors import tensor

pytestmark = [pytest.mark.node, pytest.mark.timeout(300), pytest.mark.usefixtures("chart")]


@pytest.mark.parametrize(
    ("name", "inputs", "expected"),
    [
        ("inline-numpy", ["values=[[1, 2, 6]]"], {"mean": [3.0], "largest": [2]}),
        (
            "nested-strings",
            ['{"greeting": "Hello", "person": {"name": "Ada", "scores": [1, 2]}}'],
            {"line": "Hello, Ada!", "report": {"words": ["Hello,", "Ada!"], "total": 3}},
        ),
        ("tensorproto", ["x=[1, 2]"], {"y": [2, 4]}),
        ("source-protobin", ["a=1", "b=[[1, 2], [3, 4]]"], {"sum": 11}),
    ],
)
def test_a_sample_is_applied_and_answers_by_its_services_name(
    place: Place, name: str, inputs: list[str], expected: dict[str, Any]
) -> None:
    place.caller()
    place.kubectl("apply", "-f", str(SAMPLES / f"{name}.yaml"))
    status = place.ready(name)["status"]
    assert status["replicasText"] == "1/1"
    assert place.predict(name, *inputs) == expected


def test_a_person_asks_through_port_forward(place: Place) -> None:
    place.apply(doubler())
    place.ready("doubler")
    with place.forwarded("service/doubler", 9090) as target, Client(target) as client:
        assert client.predict({"x": tensor([21], DataType.INT64)})["y"].tolist() == [42]
        assert client.health("hydrosphere.serving.runtime.PredictionService") == "SERVING"


def test_kubectl_scale_adds_replicas_that_dns_names_and_takes_them_away(place: Place) -> None:
    place.caller()
    place.apply(doubler())
    place.ready("doubler")
    place.kubectl("scale", "modelruntime/doubler", "--replicas=3")
    assert place.ready("doubler")["status"]["readyReplicas"] == 3
    assert len(_addresses(place, "doubler")) == 3
    place.kubectl("scale", "modelruntime/doubler", "--replicas=1")
    eventually(lambda: len(place.pod_names("doubler")) == 1, 90)
    eventually(lambda: len(_addresses(place, "doubler")) == 1, 30)


def _addresses(place: Place, name: str) -> set[str]:
    program = (
        "import socket, sys; "
        "print(*{each[4][0] for each in socket.getaddrinfo(sys.argv[1], 9090, type=socket.SOCK_STREAM)})"
    )
    host = place.endpoint(name).rpartition(":")[0]
    return set(place.kubectl("exec", "caller", "--", "python", "-c", program, host).split())


def test_an_autoscaled_model_has_an_autoscaler_that_owns_the_replicas(place: Place) -> None:
    place.apply(doubler(autoscaling={"minReplicas": 2, "maxReplicas": 3}, resources={"requests": {"cpu": "10m"}}))
    place.ready("doubler")
    scaler = place.get("hpa", "doubler")
    assert scaler["spec"]["minReplicas"] == 2
    eventually(lambda: place.get("deployment", "doubler")["spec"]["replicas"] == 2, 60)
    eventually(lambda: place.get("modelruntime", "doubler")["status"].get("readyReplicas") == 2, 60)


EITHER = DOUBLE + "\n\ndef double_too(x):\n    return double(x)\n"
CHANGES: dict[str, dict[str, Any]] = {
    "the files": {"model": {"inline": {"src/func_main.py": EITHER}}},
    "the contract": {"contract": {"name": "double_too"}},
    "the pods": {"env": [{"name": "LOG_LEVEL", "value": "debug"}]},
    "the batching": {"batching": {"maxSize": 2}},
    "the image": {"image": f"model-runtime:{version()}"},  # by another name than the digest that the operator gives
}


def test_changes_of_everything_under_load_cost_no_call(place: Place) -> None:
    place.apply(doubler(replicas=2))
    place.ready("doubler")
    lost = {}
    with place.load("doubler", calls=26000, rate=200) as load:
        for what, change in CHANGES.items():
            before = place.pod_names("doubler")
            place.patch("doubler", change)
            assert place.ready("doubler", 120)["status"]["readyReplicas"] == 2
            eventually(lambda old=before: len(set(place.pod_names("doubler")) - set(old)) >= 2, 60)
            lost[what] = load.counts()["lost"]  # up to here; those who leave last are counted below
        account = load.account()
    eventually(lambda: len(place.pod_names("doubler")) == 2, 120)
    assert (account["lost"], account["wrong"], account["calls"]) == (0, 0, 26000), json.dumps([lost, account])


def test_deleting_a_model_leaves_nothing_of_it(place: Place) -> None:
    place.apply(doubler(replicas=2, networkPolicy={}, warmup={"inputs": {"x": [1]}, "outputs": {"y": [2]}}))
    place.ready("doubler")
    assert len(_owned(place)) >= 8
    place.kubectl("delete", "modelruntime", "doubler")
    eventually(lambda: _owned(place) == [], 90, lambda: _owned(place))


def _owned(place: Place) -> list[str]:
    kinds = "modelruntime,deployment,replicaset,pod,service,endpointslice,configmap,pdb,hpa,networkpolicy"
    text = place.kubectl("get", kinds, "-o", "json")
    items = [
        item for item in json.loads(text)["items"] if item["metadata"]["name"] not in ("kube-root-ca.crt", "caller")
    ]
    return sorted(f"{item['kind']}/{item['metadata']['name']}" for item in items)


def test_a_model_can_be_deleted_while_the_operator_is_away(place: Place, node: Access) -> None:
    place.apply(doubler())
    place.ready("doubler")
    operators = ("-n", "model-runtime-system", "scale", "deployment", "model-runtime-operator")
    node.kubectl(*operators, "--replicas=0")
    try:
        place.kubectl("delete", "modelruntime", "doubler", "--timeout=30s")
        eventually(lambda: _owned(place) == [], 90, lambda: _owned(place))
    except subprocess.CalledProcessError as error:
        pytest.fail(error.stderr)
    finally:
        node.kubectl(*operators, "--replicas=1")
        node.kubectl("-n", "model-runtime-system", "rollout", "status", "deployment/model-runtime-operator")
