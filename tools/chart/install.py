"""manifests/install.yaml: the chart as plain manifests that apply alone, without a trace of Helm."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from cluster import binaries

RELEASE = "model-runtime-operator"
NAMESPACE = "model-runtime-system"


class RenderFailed(Exception):
    """helm refused to render; the text is its own."""


def manifest(chart: Path) -> str:
    """The CRD, a namespace that enforces Pod Security's `restricted`, and the operator. Raises RenderFailed."""
    rendered = template(chart, "--skip-tests", "--set", "crds.keep=false")
    documents = [_without_helm(document) for document in re.split(r"(?m)^---\n", rendered) if document.strip()]
    documents.sort(key=lambda document: "kind: CustomResourceDefinition" not in document)
    return "---\n".join([_HEAD, *documents])


def template(chart: Path, *options: str) -> str:
    helm = binaries.find(["helm"])["helm"]
    command = [str(helm), "template", RELEASE, str(chart), "--namespace", NAMESPACE, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RenderFailed(done.stderr)
    return done.stdout


def _without_helm(document: str) -> str:
    kept = [line for line in document.splitlines() if not _OF_HELM.search(line)]
    return "\n".join(kept).strip() + "\n"


_OF_HELM = re.compile(r"^# Source: |^ +helm\.sh/chart: |^ +app\.kubernetes\.io/managed-by: Helm$")
_HEAD = f"""# GENERATED from helm/ by `make render`. Installs the operator without Helm:
#   kubectl apply --server-side --field-manager=helm -f manifests/install.yaml
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels:
    pod-security.kubernetes.io/enforce: restricted
"""
