"""What a ModelRuntime wants of its pods reaches them, comes and goes with the spec, and is admitted where clusters are strict."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from operating import IMAGE, Operator, World, await_established, eventually, runtime

from model_runtime_operator import desired, settings, spec
from model_runtime_operator.desired import CaBundle, Platform
from model_runtime_operator.settings import InvalidSetting

PLATFORM = Platform(IMAGE)
HTTP = {"http": {"url": "https://models.example.com/x.tar.gz", "sha256": "a" * 64}}
DEVICES = {
    "requests": {"cpu": "1", "memory": "1Gi"},
    "limits": {"memory": "1Gi", "nvidia.com/gpu": 1, "hugepages-2Mi": "4Mi"},
}


def rendered(platform: Platform = PLATFORM, **wanted: Any) -> dict[str, dict[str, Any]]:
    """The desired objects by kind and name."""
    body = runtime(**wanted)
    body["metadata"] |= {"namespace": "default", "uid": "1"}
    found = desired.objects(spec.parse(body), platform)
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in found}


def pod(platform: Platform = PLATFORM, **wanted: Any) -> dict[str, Any]:
    found: dict[str, Any] = rendered(platform, **wanted)["Deployment/adder"]["spec"]["template"]["spec"]
    return found


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in container["env"]}


def steps(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in pod["initContainers"]}


# Init containers ------------------------------------------------------------------------------------------------------


def test_init_containers_ask_for_what_the_runtime_asks_for_except_devices() -> None:
    found = steps(pod(model=HTTP, requirements=["numpy"], resources=DEVICES))

    assert set(found) == {"fetch", "requirements"}
    for step in found.values():
        assert step["resources"] == {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}


def test_init_containers_can_be_given_resources_of_their_own() -> None:
    own = {"limits": {"cpu": "1", "memory": "2Gi"}}
    image = {"image": {"reference": "r/m:1", "mode": "Copy"}}

    assert steps(pod(model=image, resources=DEVICES, initResources=own))["copy"]["resources"] == own


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        (
            {"s3": {"bucket": "b", "prefix": "-p/", "endpoint": "http://s:9000", "region": "eu", "anonymous": True}},
            "fetch s3 --endpoint http://s:9000 --region eu --anonymous --into /target -- b -p/",
        ),
        (
            {"gcs": {"bucket": "b", "prefix": "p/", "manifestSha256": "a" * 64}},
            f"fetch gcs --manifest-sha256 {'a' * 64} --into /target -- b p/",
        ),
        (
            {"azure": {"account": "acc", "container": "c", "prefix": "p.zip"}},
            "fetch azure --account acc --into /target -- c p.zip",
        ),
    ],
)
def test_objects_are_fetched_from_every_cloud(source: dict[str, Any], arguments: str) -> None:
    assert steps(pod(model=source))["fetch"]["args"] == arguments.split()


def test_an_argument_never_becomes_the_value_of_a_variable() -> None:
    """The kubelet puts variables in for $(NAME), and what they hold would be seen in messages."""
    found = steps(pod(model={"s3": {"bucket": "b", "prefix": "$(AWS_SECRET_ACCESS_KEY)/$x"}}, requirements=["$(HOME)"]))

    assert found["fetch"]["args"][-1] == "$$(AWS_SECRET_ACCESS_KEY)/$$x"
    assert found["requirements"]["args"][-1] == "$$(HOME)"


def test_what_is_said_of_proxies_and_certificates_reaches_every_step() -> None:
    env = [
        {"name": "HTTPS_PROXY", "value": "http://proxy:3128"},
        {"name": "no_proxy", "value": ".svc"},
        {"name": "SSL_CERT_FILE", "value": "/certs/ca.crt"},
        {"name": "INSTALL_TIMEOUT_SECONDS", "value": "60"},
        {"name": "MODEL_PYTHON", "value": "/usr/bin/python3.9"},
        {"name": "SECRET", "value": "x"},
    ]
    volumes = [{"name": "certs", "configMap": {"name": "certs"}}]
    mounts = [{"name": "certs", "mountPath": "/certs"}]
    found = pod(model=HTTP, requirements=["numpy"], env=env, volumes=volumes, volumeMounts=mounts)

    for step in steps(found).values():
        passed = {"HTTPS_PROXY", "no_proxy", "SSL_CERT_FILE", "INSTALL_TIMEOUT_SECONDS", "MODEL_PYTHON"}
        assert passed <= variables(step).keys()
        assert "SECRET" not in variables(step)
        assert mounts[0] in step["volumeMounts"]


def test_the_proxies_and_certificates_of_the_whole_operator_reach_every_container() -> None:
    chosen = settings.from_environment(
        {
            "RUNTIME_IMAGE": IMAGE,
            "RUNTIME_HTTPS_PROXY": "http://proxy:3128",
            "RUNTIME_NO_PROXY": "10.0.0.0/8",
            "RUNTIME_CA_BUNDLE": "company-ca/bundle.pem",
            "HOME": "/",
        }
    )
    assert chosen.ca_bundle is not None
    platform = Platform(IMAGE, proxies=chosen.proxies, ca_bundle=CaBundle(*chosen.ca_bundle))
    found = pod(platform, model=HTTP, requirements=["numpy"], env=[{"name": "https_proxy", "value": "http://mine:1"}])

    assert {"key": "bundle.pem", "path": "ca.crt"} in next(
        each["configMap"]["items"] for each in found["volumes"] if each["name"] == "ca"
    )
    for container in [*found["initContainers"], *found["containers"]]:
        given = variables(container)
        assert given["SSL_CERT_FILE"] == given["PIP_CERT"] == "/etc/model-runtime/ca/ca.crt"
        assert given["NO_PROXY"] == given["no_proxy"] == "10.0.0.0/8,localhost,127.0.0.1,::1,.svc,.cluster.local"
        assert (given["https_proxy"], given.get("HTTPS_PROXY")) == ("http://mine:1", None)  # a ModelRuntime's own wins
        assert "ca" in [mount["name"] for mount in container["volumeMounts"]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RUNTIME_HTTP_PROXY", "proxy:3128"),
        ("RUNTIME_CA_BUNDLE", "a/b/c"),
        ("RUNTIME_CA_BUNDLE", "/b"),
        ("ASSIGNED_USERS", "maybe"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=name):
        settings.from_environment({"RUNTIME_IMAGE": IMAGE, "HOME": "/", name: value})


def test_no_user_is_fixed_where_the_cluster_or_the_model_runtime_gives_one() -> None:
    image = {"image": {"reference": "r/m:1", "mode": "Copy"}}
    open_shift = pod(Platform(IMAGE, assigns_users=True), model=image)
    own = pod(model=image, securityContext={"runAsUser": 1234})

    assert "runAsUser" not in json.dumps(open_shift)
    assert own["securityContext"]["runAsUser"] == 1234
    assert "runAsUser" not in json.dumps([*own["initContainers"], *own["containers"]])


# Time -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grace", "drain", "calls"),
    [(75, 40, 25), (600, 40, 550), (60, 25, 25), (35, 0, 25), (30, 0, 20), (10, 0, 0), (1, 0, 0)],
)
def test_a_grace_period_is_divided_among_what_happens_in_it(grace: int, drain: int, calls: int) -> None:
    found = pod(terminationGracePeriodSeconds=grace)

    [container] = found["containers"]
    given = variables(container)
    assert found["terminationGracePeriodSeconds"] == grace
    assert (given["DRAIN_LIMIT_SECONDS"], given["GRACE_SECONDS"]) == (str(drain), str(calls))
    assert container["lifecycle"]["preStop"]["sleep"]["seconds"] <= grace


def test_a_container_that_answers_no_probe_is_killed_soon() -> None:
    [container] = pod()["containers"]

    assert container["livenessProbe"]["terminationGracePeriodSeconds"] == 10
    assert container["startupProbe"]["terminationGracePeriodSeconds"] == 10
    assert "terminationGracePeriodSeconds" not in container["readinessProbe"]


# On the real API server -----------------------------------------------------------------------------------------------


@pytest.mark.apiserver
def test_a_quota_admits_what_is_fetched_copied_and_installed(world: World, operator: Operator) -> None:
    world.kubectl(
        "create", "quota", "all", "--hard=limits.cpu=8,limits.memory=8Gi,requests.cpu=8,requests.memory=8Gi,pods=9"
    )
    world.kubectl("label", "namespace", world.namespace, "pod-security.kubernetes.io/enforce=restricted")
    limits = {"limits": {"cpu": "100m", "memory": "128Mi"}}
    copied = {"image": {"reference": "r/m:1", "mode": "Copy"}}
    world.apply(
        runtime("fetched", model=HTTP, requirements=["numpy"], resources=limits, sharedMemory="64Mi"),
        runtime("copied", model=copied, resources=limits, fsGroup=2000),
    )

    assert len(world.pods("fetched")) == len(world.pods("copied")) == 1
    [fetched] = world.pods("fetched")
    assert all(step["resources"]["limits"] for step in fetched["spec"]["initContainers"])


@pytest.mark.apiserver
def test_a_strategy_comes_and_goes(world: World, operator: Operator) -> None:
    def strategy() -> dict[str, Any]:
        found: dict[str, Any] = world.get("deployment", "adder")["spec"]["strategy"]
        return found

    world.apply(runtime())
    world.await_reason("adder", "Deploying")
    assert strategy() == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    world.apply(runtime(strategy={"type": "Recreate"}))
    eventually(lambda: strategy() == {"type": "Recreate"})
    world.apply(runtime(strategy={"rollingUpdate": {"maxSurge": 0}}))
    eventually(lambda: strategy() == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}})
    world.apply(runtime(strategy={"rollingUpdate": {"maxSurge": "50%", "maxUnavailable": "25%"}}))
    eventually(lambda: strategy()["rollingUpdate"] == {"maxSurge": "50%", "maxUnavailable": "25%"})


@pytest.mark.apiserver
def test_an_external_service_comes_and_goes_and_the_headless_one_stays(world: World, operator: Operator) -> None:
    world.apply(runtime(service={"annotations": {"mesh": "yes"}, "labels": {"team": "vision"}}))
    world.serve("adder")
    world.await_reason("adder", "Available")
    metadata = world.get("service", "adder")["metadata"]
    assert metadata["annotations"]["mesh"] == "yes"
    assert metadata["labels"]["team"] == "vision"

    world.apply(runtime(service={"type": "NodePort", "annotations": {"lb": "wide"}}))
    eventually(lambda: world.names("services") == ["adder", "adder-external"])
    external = world.get("service", "adder-external")
    assert external["spec"]["type"] == "NodePort"
    assert external["metadata"]["annotations"]["lb"] == "wide"
    eventually(lambda: "mesh" not in world.get("service", "adder")["metadata"]["annotations"])
    assert world.get("service", "adder")["spec"]["clusterIP"] == "None"
    assert world.get("service", "adder")["metadata"]["uid"] == metadata["uid"]
    eventually(lambda: len(world.all("endpointslices")) == 2)
    assert "1 pod serves" in world.condition("adder", "Available")["message"]  # not two, though two Services list it

    world.apply(runtime(service={"type": "LoadBalancer"}))
    eventually(lambda: world.get("service", "adder-external")["spec"]["type"] == "LoadBalancer")
    world.apply(runtime())
    eventually(lambda: world.names("services") == ["adder"])


@pytest.mark.apiserver
def test_a_foreign_service_of_the_external_name_is_left_alone(world: World, operator: Operator) -> None:
    spec = {"ports": [{"port": 1}], "selector": {"app": "theirs"}}
    world.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "adder-external"}, "spec": spec})
    world.apply(runtime(service={"type": "NodePort"}))

    world.await_reason("adder", "NameConflict")
    assert world.get("service", "adder-external")["spec"]["selector"] == {"app": "theirs"}


@pytest.mark.apiserver
def test_the_port_of_the_metrics_is_named_and_open(world: World, operator: Operator) -> None:
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    world.apply(runtime(networkPolicy={"from": [{"podSelector": {}}], "metricsFrom": [monitoring]}))
    eventually(lambda: world.names("networkpolicies") == ["adder"])

    [container] = world.get("deployment", "adder")["spec"]["template"]["spec"]["containers"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"grpc": 9090, "metrics": 9100}
    rules = world.get("networkpolicies", "adder")["spec"]["ingress"]
    assert [(rule["ports"][0]["port"], rule["from"]) for rule in rules] == [
        ("grpc", [{"podSelector": {}}]),
        ("metrics", [monitoring]),
    ]

    world.apply(runtime(networkPolicy={"from": []}, metrics={"enabled": False}))
    eventually(lambda: len(world.get("networkpolicies", "adder")["spec"]["ingress"]) == 1)


@pytest.mark.apiserver
def test_a_volume_that_makes_no_sense_is_refused_in_the_api_servers_words(world: World, operator: Operator) -> None:
    world.apply(
        runtime(
            volumes=[{"name": "data", "configmap": {"name": "x"}}],
            volumeMounts=[{"name": "data", "mountPath": "/data"}],
        )
    )

    assert "configmap" in world.await_reason("adder", "ObjectRefused")["message"]


@pytest.mark.apiserver
def test_open_shift_is_recognised_by_its_api(world: World, start: Callable[..., Operator]) -> None:
    names = {"kind": "SecurityContextConstraints", "plural": "securitycontextconstraints"}
    schema = {"openAPIV3Schema": {"type": "object"}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "securitycontextconstraints.security.openshift.io"},
        "spec": {"group": "security.openshift.io", "scope": "Cluster", "names": names, "versions": [version]},
    }
    copied = {"image": {"reference": "r/m:1", "mode": "Copy"}}
    world.kubectl("create", "-f", "-", text=json.dumps(crd))
    try:
        await_established(world.api, "securitycontextconstraints.security.openshift.io")
        operator = start()
        operator.wait_ready()
        world.apply(runtime(model=copied))
        world.await_reason("adder", "Deploying")
        assert "runAsUser" not in json.dumps(world.get("deployment", "adder"))
    finally:
        world.kubectl("delete", "crd", "securitycontextconstraints.security.openshift.io")
