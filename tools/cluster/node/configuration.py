"""The texts of the components' configuration files. Pure: values in, texts out."""

from __future__ import annotations

import json
from pathlib import Path

from .layout import (
    DNS_ADDRESS,
    NODE,
    NODE_ADDRESS,
    PAUSE_IMAGE,
    POD_RANGE,
    REGISTRIES,
    REGISTRY,
    REGISTRY_PORT,
    RUN,
    Layout,
)

CONTAINERD_SOCKET = RUN / "containerd" / "containerd.sock"


def containerd(layout: Layout, *, runc: str, plugins: str, network: Path) -> str:
    """containerd's: images from the local registry by plain HTTP, containers by runc."""
    return f"""\
version = 4
root = '{layout.state}/containerd'
state = '/run/containerd'
[grpc]
  address = '{CONTAINERD_SOCKET}'
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = '{PAUSE_IMAGE}'
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = '{REGISTRIES}'
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true # or runc needs CAP_SYS_RESOURCE, and fails with "can't get final child's PID"
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['{plugins}']
    conf_dir = '{network}'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = '{runc}'
      SystemdCgroup = false
"""


def registry_hosts() -> dict[Path, str]:
    """Where containerd looks how to reach a registry, and what it finds there: ours, where bare names (`image:1`) lead too."""
    address = f"http://127.0.0.1:{REGISTRY_PORT}"
    text = f'server = "{address}"\n[host."{address}"]\n  capabilities = ["pull", "resolve"]\n'
    return {REGISTRIES / name / "hosts.toml": text for name in (REGISTRY, "docker.io")}


def registry(layout: Layout) -> str:
    """The OCI registry's: its files below the node's folder, deletions allowed."""
    return json.dumps(
        {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": f"{layout.state}/registry"}, "delete": {"enabled": True}},
            "http": {"addr": f"127.0.0.1:{REGISTRY_PORT}"},
        }
    )


def kubelet(layout: Layout) -> str:
    """kubelet's, which must neither pull what is here nor evict because the developer's disk is nearly full."""
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": NODE_ADDRESS,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{layout.pki}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": f"{layout.pki}/kubelet-server.crt",
            "tlsPrivateKeyFile": f"{layout.pki}/kubelet-server.key",
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "failSwapOn": False,
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "clusterDomain": "cluster.local",
            "clusterDNS": [DNS_ADDRESS],
            "resolvConf": f"{RUN}/resolv.conf",
            "volumePluginDir": f"{RUN}/kubelet-plugins",
            "serializeImagePulls": False,
            # Else an image that is here is pulled again once its digest has come from a registry.
            "imagePullCredentialsVerificationPolicy": "NeverVerify",
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "1%",
                "imagefs.available": "1%",
                "nodefs.inodesFree": "1%",
            },
            "nodeStatusUpdateFrequency": "5s",
        }
    )


def kube_proxy(kubeconfig: Path) -> str:
    """kube-proxy's: iptables, and hands off the host's connection tracking."""
    return json.dumps(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "bindAddress": "127.0.0.1",
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "hostnameOverride": NODE,
            "clusterCIDR": POD_RANGE,
            "mode": "iptables",
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }
    )
