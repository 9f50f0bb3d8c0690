"""What helm makes of the values, without a cluster: lint, refusals, and what each rendered object says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from charting import CHART, EVERYTHING, INSTALL, ROOT, Helm, of_kind
from prometheus_client import REGISTRY

from chart import values
from cluster import binaries
from model_runtime_operator import defaults, metrics, settings

pytestmark = pytest.mark.apiserver

MONITORS = ("--set", "metrics.serviceMonitor.enabled=true", "--set", "metrics.podMonitor.enabled=true")


@pytest.mark.parametrize("options", [(), EVERYTHING, MONITORS, ("-f", str(CHART / "values-ha.yaml"))])
def test_the_chart_lints_without_a_warning(helm: Helm, options: tuple[str, ...]) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), *options)


BAD = [
    (("replicas=two",), "'/replicas': got string, want integer"),
    (("replcas=2",), "additional properties 'replcas' not allowed"),
    (("image.operator.tagg=1",), "'/image/operator': additional properties 'tagg' not allowed"),
    (("image.operator.digest=sha256:abc",), "'/image/operator/digest'"),
    (("image.pullPolicy=Sometimes",), "value must be one of 'Always', 'IfNotPresent', 'Never'"),
    (("imageVolumes=maybe",), "'/imageVolumes': value must be one of"),
    (("proxy.httpProxy=proxy:3128",), "'/proxy/httpProxy'"),
    (("caBundle.configMap=Bundle",), "'/caBundle/configMap'"),
    (("watchNamespaces={Team_A}",), "'/watchNamespaces/0': 'Team_A' does not match pattern"),
    (("watchNamespaces={a,a}",), "'/watchNamespaces': items at 0 and 1 are equal"),
    (("metrics.port=99999",), "'/metrics/port': maximum"),
    (("metrics.serviceMonitor.interval=soon",), "'/metrics/serviceMonitor/interval'"),
    (("log.level=loud",), "'/log/level': value must be one of"),
    (("resyncSeconds=0",), "'/resyncSeconds': minimum"),
    (("global.imageRegistry=a b",), "'/global/imageRegistry'"),
    (("probes.liveness.periodseconds=1",), "'/probes/liveness': additional properties 'periodseconds' not allowed"),
    (("podDisruptionBudget.minAvailable=half",), "'/podDisruptionBudget/minAvailable'"),
    (("metrics.podMonitor.scrapeTimeout=soon",), "'/metrics/podMonitor/scrapeTimeout'"),
    (("defaults.replicas=3",), "'/defaults': additional properties 'replicas' not allowed"),
    (("nodeSelector.disk=1",), "'/nodeSelector/disk': got number, want string"),
    (
        ("metrics.serviceMonitor.enabled=true", "metrics.service.enabled=false"),
        "metrics.serviceMonitor.enabled: expected metrics.service.enabled too",
    ),
]


@pytest.mark.parametrize(("chosen", "message"), BAD, ids=lambda part: ",".join(part) if isinstance(part, tuple) else "")
def test_a_bad_value_is_refused_by_its_name(helm: Helm, chosen: tuple[str, ...], message: str) -> None:
    options = [option for value in chosen for option in ("--set", value)]
    assert message in helm.refusal("template", "mro", str(CHART), *options)


def test_the_schema_and_the_values_know_the_same_keys() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    documented = {value.key for value in values.read(CHART / "values.yaml")}
    assert set(_keys(schema, schema["definitions"])) == documented


_PROBES = ("probes.startup", "probes.liveness", "probes.readiness")


def _keys(schema: dict[str, Any], definitions: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name, part in schema["properties"].items():
        part = definitions[part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        is_group = "properties" in part and f"{prefix}{name}" not in ("resources", "defaults", *_PROBES)
        found += _keys(part, definitions, f"{prefix}{name}.") if is_group else [f"{prefix}{name}"]
    return found


def test_the_chart_has_the_projects_version() -> None:
    [project] = re.findall(r'(?m)^version = "(.*)"$', (ROOT / "pyproject.toml").read_text())
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (about["version"], about["appVersion"]) == (project, project)


def test_a_value_without_a_comment_cannot_be_documented(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("# A group.\na:\n  # This one has a comment.\n  b: 1\n  c: 2\n")
    with pytest.raises(values.Undocumented, match=r"expected a comment over a\.c"):
        values.read(tmp_path / "values.yaml")


def test_the_operator_reads_every_variable_that_the_deployment_sets(helm: Helm) -> None:
    options = ("--set", "watchNamespaces={a,b},imageVolumes=false,workers=3,resyncSeconds=60,metrics.port=9999")
    options += (
        "--set",
        "proxy.httpsProxy=http://p:1,proxy.noProxy=.example.com,caBundle.configMap=ca,assignedUsers=true",
    )
    [deployment] = of_kind(helm.render(*options, "--set", "log.level=debug,log.format=json"), "Deployment")
    given = {each["name"]: each.get("value", each["name"]) for each in _container(deployment)["env"]}
    read = settings.from_environment(given)
    assert read == settings.Settings(
        runtime_template="mro-model-runtime-operator-runtime", namespaces=("a", "b"), image_volumes=False, assigns_users=True,
        proxies={"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".example.com,localhost,127.0.0.1,::1,.svc,.cluster.local"},
        ca_bundle=("ca", "ca.crt"),
        workers=3, resync_seconds=60,
        lease_namespace="POD_NAMESPACE", lease_name="mro-model-runtime-operator", identity="POD_NAME", pod_uid="POD_UID",
        http_port=9999,
        log_level="debug", log_format="json",
    )  # fmt: skip
    assert set(given) - {"HOME"} <= set(re.findall(r'"([A-Z_]+)"', Path(settings.__file__).read_text()))


def test_images_come_from_the_registry_and_by_the_digest_that_is_named(helm: Helm) -> None:
    digest = "sha256:" + "0" * 64
    options = ("--set", f"image.registry=registry.example.com/ml/,image.runtime.digest={digest},image.operator.tag=v7")
    rendered = helm.render(*options)
    [deployment] = of_kind(rendered, "Deployment")
    assert _container(deployment)["image"] == "registry.example.com/ml/model-runtime-operator:v7"
    assert _runtime_image(rendered) == f"registry.example.com/ml/model-runtime:0.1.0@{digest}"


def _runtime_image(rendered: list[dict[str, Any]]) -> str:
    [template] = of_kind(rendered, "PodTemplate")
    [container] = template["template"]["spec"]["containers"]
    return str(container["image"])


def test_kustomize_replaces_the_images_and_replicas_of_install_yaml(tmp_path: Path) -> None:
    chosen = {
        "resources": ["install.yaml"],
        "images": [
            {"name": "model-runtime", "newName": "mirror.example.com/runtime", "newTag": "v2"},
            {
                "name": "model-runtime-operator",
                "newName": "mirror.example.com/operator",
                "digest": "sha256:" + "0" * 64,
            },
        ],
        "replicas": [{"name": "model-runtime-operator", "count": 2}],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(chosen))
    (tmp_path / "install.yaml").write_text(INSTALL.read_text())
    kubectl = binaries.find(["kubectl"])["kubectl"]
    done = subprocess.run([kubectl, "kustomize", tmp_path], capture_output=True, text=True, check=True)
    rendered = list(yaml.safe_load_all(done.stdout))
    [deployment] = of_kind(rendered, "Deployment")
    assert _container(deployment)["image"] == "mirror.example.com/operator@sha256:" + "0" * 64
    assert deployment["spec"]["replicas"] == 2
    assert _runtime_image(rendered) == "mirror.example.com/runtime:v2"


def test_global_values_choose_the_registry_and_pull_secrets(helm: Helm) -> None:
    chosen = "global.imageRegistry=mirror.example.com,image.registry=other.example.com,global.imagePullSecrets={a,b}"
    rendered = helm.render("--set", f"{chosen},image.pullSecrets[0].name=b")
    [deployment] = of_kind(rendered, "Deployment")
    assert _container(deployment)["image"].startswith("mirror.example.com/model-runtime-operator:")
    assert _runtime_image(rendered).startswith("mirror.example.com/model-runtime:")
    assert deployment["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}]


def test_the_pods_of_the_operator_can_be_shaped(helm: Helm) -> None:
    chosen = {
        "envFrom": [{"configMapRef": {"name": "proxies"}}],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
        "deploymentAnnotations": {"a": "b"},
        "commonLabels": {"team": "ml", "app.kubernetes.io/name": "no"},
        "strategy": {"type": "Recreate"},
        "podSecurityContext": {"runAsUser": 1000},
        "securityContext": {"privileged": False},
        "terminationGracePeriodSeconds": 60,
        "probes": {"liveness": {"periodSeconds": 20}},
    }
    options = [part for name, value in chosen.items() for part in ("--set-json", f"{name}={json.dumps(value)}")]
    rendered = helm.render(*options)
    [deployment] = of_kind(rendered, "Deployment")
    pod, container = deployment["spec"]["template"]["spec"], _container(deployment)
    assert container["envFrom"] == chosen["envFrom"]
    assert pod["volumes"][-1]["name"] == container["volumeMounts"][-1]["name"] == "ca"
    assert deployment["metadata"]["annotations"] == {"a": "b"}
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert pod["securityContext"]["runAsUser"] == 1000
    assert container["securityContext"]["privileged"] is False
    assert pod["terminationGracePeriodSeconds"] == 60
    assert (container["livenessProbe"]["periodSeconds"], container["livenessProbe"]["timeoutSeconds"]) == (20, 5)
    labelled = [item for item in rendered if item["kind"] != "CustomResourceDefinition"]
    assert {item["metadata"]["labels"].get("team") for item in labelled} == {"ml"}
    names = {item["metadata"]["labels"].get("app.kubernetes.io/name") for item in rendered}
    assert names == {"model-runtime-operator", None}  # None: the objects of `helm test`, which no selector may match


def test_fleet_defaults_reach_the_operator_and_the_schema_knows_its_fields(helm: Helm) -> None:
    chosen = {"tolerations": [{"key": "gpu"}], "nodeSelector": {"pool": "models"}}
    [deployment] = of_kind(helm.render("--set-json", f"defaults={json.dumps(chosen)}"), "Deployment")
    given = {each["name"]: each.get("value", "") for each in _container(deployment)["env"]}
    assert settings.from_environment(given).defaults == chosen
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(schema["properties"]["defaults"]["properties"]) == defaults.ALLOWED


def test_extra_objects_are_rendered_as_templates(helm: Helm) -> None:
    extra = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-extra"}},
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: plain}}",
    ]
    rendered = helm.render("--set-json", f"extraObjects={json.dumps(extra)}")
    assert {item["metadata"]["name"] for item in of_kind(rendered, "ConfigMap")} == {"mro-extra", "plain"}


@pytest.mark.parametrize(
    ("monitor", "endpoints"), [("serviceMonitor", "endpoints"), ("podMonitor", "podMetricsEndpoints")]
)
def test_monitors_take_what_the_prometheus_operator_offers(helm: Helm, monitor: str, endpoints: str) -> None:
    chosen = {
        "enabled": True, "namespace": "monitoring", "scrapeTimeout": "7s", "labels": {"release": "prometheus"},
        "relabelings": [{"action": "labeldrop", "regex": "pod"}], "metricRelabelings": [{"action": "drop", "regex": "x"}],
    }  # fmt: skip
    rendered = helm.render("--set-json", f"metrics.{monitor}={json.dumps(chosen)}")
    [found] = of_kind(rendered, monitor[0].upper() + monitor[1:])
    [endpoint] = found["spec"][endpoints]
    assert found["metadata"]["namespace"] == "monitoring"
    assert found["metadata"]["labels"]["release"] == "prometheus"
    assert endpoint["scrapeTimeout"] == "7s"
    assert endpoint["relabelings"][-1] == chosen["relabelings"][0]
    assert endpoint["metricRelabelings"] == chosen["metricRelabelings"]


def test_the_ha_values_name_no_class_of_a_cloud_and_follow_the_names(helm: Helm) -> None:
    [deployment] = of_kind(
        helm.render("-f", str(CHART / "values-ha.yaml"), "--set", "nameOverride=other"), "Deployment"
    )
    pod = deployment["spec"]["template"]["spec"]
    assert "priorityClassName" not in pod
    [term] = pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    [spread] = pod["topologySpreadConstraints"]
    selector = deployment["spec"]["selector"]
    assert term["podAffinityTerm"]["labelSelector"] == spread["labelSelector"] == selector
    assert selector["matchLabels"]["app.kubernetes.io/name"] == "other"


def test_a_disruption_budget_takes_either_bound(helm: Helm) -> None:
    for chosen, spec in (("minAvailable=50%", {"minAvailable": "50%"}), ("maxUnavailable=1", {"maxUnavailable": 1})):
        [budget] = of_kind(helm.render("--set", f"replicas=3,podDisruptionBudget.{chosen}"), "PodDisruptionBudget")
        bounds = {key: value for key, value in budget["spec"].items() if key in ("minAvailable", "maxUnavailable")}
        assert bounds == spec


def test_two_operators_have_a_disruption_budget_and_one_has_none(helm: Helm) -> None:
    assert of_kind(helm.render(), "PodDisruptionBudget") == []
    [budget] = of_kind(helm.render("-f", str(CHART / "values-ha.yaml")), "PodDisruptionBudget")
    assert budget["spec"]["minAvailable"] == 1
    assert of_kind(helm.render("--set", "replicas=2,podDisruptionBudget.enabled=false"), "PodDisruptionBudget") == []


def test_a_namespaced_operator_gets_nothing_that_belongs_to_the_cluster(helm: Helm) -> None:
    rendered = helm.render(
        "--set", "watchNamespaces={a,b},crds.install=false,rbac.aggregate=false,rbac.ownObjectsOnly=false"
    )
    assert {item["kind"] for item in rendered} & {
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
    } == set()
    assert sorted(item["metadata"]["namespace"] for item in of_kind(rendered, "Role")) == ["a", "b", "operators"]


@pytest.mark.parametrize("file", ["dashboards/model-runtime.json", "files/alerts.yaml"])
def test_dashboards_and_alerts_ask_only_for_metrics_that_exist(file: str) -> None:
    operators = {name for metric in REGISTRY.collect() for name in _series(metric) if "operator" in name}
    assert metrics.LEADING is not None
    asked = set(re.findall(r"model_runtime_[a-z_]+", (CHART / file).read_text()))
    asked -= {"model_runtime", "model_runtime_operator_api_seconds"}  # the latter stands in a text, without its suffix
    of_runtime = {name for name in asked if not name.startswith("model_runtime_operator_")}
    assert asked - of_runtime <= operators
    source = (ROOT / "runtime" / "model_runtime" / "server" / "metrics.py").read_text()
    known = {f"model_runtime_{name}" for name in re.findall(r'f"\{_PREFIX\}_([a-z_]+)"', source)}
    assert {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in of_runtime} <= known


def _series(metric: Any) -> set[str]:
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(metric.type, ("",))
    return {f"{metric.name}{suffix}" for suffix in suffixes}


def _container(deployment: dict[str, Any]) -> dict[str, Any]:
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    return dict(container)


def test_what_is_made_of_the_chart_is_up_to_date() -> None:
    command = [sys.executable, "-m", "chart", "--check"]
    done = subprocess.run(command, cwd=ROOT / "tools", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
