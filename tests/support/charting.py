"""helm as a person runs it: lint, template, install, upgrade, uninstall; and what it renders, as objects."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from cluster.controlplane import ControlPlane

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "helm"
INSTALL = ROOT / "manifests" / "install.yaml"
CRD_NAME = "modelruntimes.runtime.hydrosphere.io"
# Everything that is off by default and needs no CRD of others.
EVERYTHING = (
    *("--set", "replicas=2", "--set", "networkPolicy.enabled=true", "--set", "metrics.dashboard.enabled=true"),
    *("--set", "image.pullSecrets[0].name=pull", "--set", "env[0].name=HTTPS_PROXY,env[0].value=http://proxy:3128"),
    *(
        "--set",
        "podLabels.team=a,podAnnotations.note=b,nodeSelector.disk=fast,priorityClassName=system-cluster-critical",
    ),
    *("--set", "tolerations[0].operator=Exists", "--set-json", 'serviceAccount.annotations={"a":"b"}'),
    *("--set", "commonLabels.team=a,deploymentAnnotations.note=b,podDisruptionBudget.maxUnavailable=1"),
    *("--set-json", 'envFrom=[{"configMapRef":{"name":"proxies","optional":true}}]'),
    *("--set-json", 'extraVolumes=[{"name":"ca","configMap":{"name":"ca"}}]'),
    *("--set-json", 'extraVolumeMounts=[{"name":"ca","mountPath":"/ca"}]'),
    *("--set-json", 'networkPolicy.extraEgress=[{"ports":[{"port":3128,"protocol":"TCP"}]}]'),
    *("--set-json", 'extraObjects=[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"extra"}}]'),
    *("--set-json", 'networkPolicy.metricsFrom=[{"namespaceSelector":{"matchLabels":{"team":"monitoring"}}}]'),
)


class Helm:
    """One helm with folders of its own; `on` a cluster it also installs."""

    def __init__(self, program: Path, home: Path, kubeconfig: Path | None = None) -> None:
        self._program, self._home, self._kubeconfig = program, home, kubeconfig

    def on(self, kubeconfig: Path) -> Helm:
        return Helm(self._program, self._home, kubeconfig)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        folders = {f"HELM_{kind}_HOME": str(self._home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        cluster = {"KUBECONFIG": str(self._kubeconfig or self._home / "none")}
        environment = {**os.environ, **folders, **cluster}
        return subprocess.run([str(self._program), *arguments], capture_output=True, text=True, env=environment)

    def __call__(self, *arguments: str) -> str:
        """helm's output; fails the test with helm's own words."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def refusal(self, *arguments: str) -> str:
        """What helm says when it refuses, which it must."""
        done = self.run(*arguments)
        assert done.returncode != 0, f"helm {' '.join(arguments)} did what it should refuse"
        return done.stderr

    def render(self, *options: str, release: str = "mro", namespace: str = "operators") -> list[dict[str, Any]]:
        text = self("template", release, str(CHART), "--namespace", namespace, *options)
        return [document for document in yaml.safe_load_all(text) if document]

    def uninstall_all(self) -> None:
        for release in json.loads(self("list", "--all-namespaces", "-o", "json")):
            self("uninstall", release["name"], "--namespace", release["namespace"])


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [item for item in objects if item["kind"] == kind]


def service_account_kubeconfig(plane: ControlPlane, namespace: str, name: str, path: Path) -> Path:
    """A kubeconfig that is that service account and nobody else."""
    config = yaml.safe_load(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": plane.kubectl("-n", namespace, "create", "token", name).strip()}
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    return path
