"""The alerts: each fires for the state that it names (promtool), uses metrics that exist, and is rendered as the values say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from charting import CHART, Helm, of_kind

from cluster import binaries

pytestmark = pytest.mark.apiserver

RULES = CHART / "files" / "alerts.yaml"
CASES = Path(__file__).parent / "alerts_test.yaml"


def _alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def test_every_alert_fires_for_its_state_and_no_other() -> None:
    promtool = binaries.find(["promtool"])["promtool"]
    done = subprocess.run([promtool, "test", "rules", CASES.name], cwd=CASES.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_every_alert_is_tested_firing_and_silent() -> None:
    silent, firing = (
        {case["alertname"]: case["exp_alerts"] for case in test["alert_rule_test"]}
        for test in yaml.safe_load(CASES.read_text())["tests"]
    )
    names = {alert["alert"] for alert in _alerts()}
    assert set(silent) == set(firing) == names
    assert all(silent[name] == [] and firing[name] for name in names)


def test_a_prometheus_rule_holds_the_alerts_that_are_not_disabled(helm: Helm) -> None:
    chosen = "metrics.prometheusRule.enabled=true,metrics.prometheusRule.disabled={ModelRuntimeOverloaded}"
    more = "metrics.prometheusRule.alertLabels.team=ml,metrics.prometheusRule.namespace=monitoring"
    [rule] = of_kind(helm.render("--set", chosen, "--set", more), "PrometheusRule")
    rendered = [alert for group in rule["spec"]["groups"] for alert in group["rules"]]
    expected = [alert for alert in _alerts() if alert["alert"] != "ModelRuntimeOverloaded"]
    assert [alert["alert"] for alert in rendered] == [alert["alert"] for alert in expected]
    assert [alert["expr"] for alert in rendered] == [alert["expr"] for alert in expected]
    assert [alert["annotations"] for alert in rendered] == [alert["annotations"] for alert in expected]
    assert all(alert["labels"]["team"] == "ml" and alert["labels"]["severity"] for alert in rendered)
    assert rule["metadata"]["namespace"] == "monitoring"
    assert of_kind(helm.render(), "PrometheusRule") == []


def test_the_documentation_names_every_alert() -> None:
    page = (CHART.parent / "docs" / "kubernetes.md").read_text()
    told = set(re.findall(r"^\| `(ModelRuntime\w+)` \|", page, re.MULTILINE))
    assert told == {alert["alert"] for alert in _alerts()}
