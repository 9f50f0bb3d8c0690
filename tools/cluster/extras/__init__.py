"""What a cluster usually has and our node does not need for itself: installed where a test asks for it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cluster import archives, binaries
from cluster.access import Access

_HERE = Path(__file__).parent
METRICS_IMAGE = "localhost/metrics-server:1"
METRICS_SECONDS = 90


def metrics_server(access: Access) -> None:
    """Makes `kubectl top` and autoscalers work. A cluster that is not ours, or has one already, stays as it is."""
    if _has_metrics(access) or not access.inside:
        return
    archive = access.kubeconfig.parent / "metrics-server.tar"
    archives.write(archive, binaries.find(["metrics-server"])["metrics-server"], METRICS_IMAGE)
    ctr = ("ctr", "--namespace=k8s.io", "images", "import", str(archive))
    subprocess.run([*access.inside, *ctr], check=True, capture_output=True)
    access.kubectl("apply", "--server-side", "--filename", str(_HERE / "metrics-server.yaml"))
    available = "apiservice/v1beta1.metrics.k8s.io"
    access.kubectl("wait", "--for=condition=Available", available, f"--timeout={METRICS_SECONDS}s")


def _has_metrics(access: Access) -> bool:
    found = access.kubectl("get", "apiservice", "v1beta1.metrics.k8s.io", "--ignore-not-found", "--output=name")
    return bool(found.strip())
