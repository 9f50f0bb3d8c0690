"""What a serving system asks of a cluster, on a whole one: real containers of our own image, probes, volumes, names, rollouts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from environments import ROOT

from cluster import images
from cluster.access import Access

MODEL = ROOT / "manifests" / "samples" / "inline-numpy.yaml"
# Asks over a new connection each time, until a line comes in; says how often, and what went wrong.
LOAD = """
import json, select, sys, grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
asked, lost = 0, []
while not select.select([sys.stdin], [], [], 0)[0]:
    asked += 1
    with grpc.insecure_channel("model:9090") as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
            if answer.status != 1:
                lost.append(str(answer))
        except grpc.RpcError as error:
            lost.append(f"{error.code()} {error.details()}")
print(json.dumps({"asked": asked, "lost": lost}))
"""
pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]  # a busy machine takes its time


class Workload:
    """The Deployment of workload.yaml with all around it, in a namespace of its own."""

    def __init__(self, cluster: Access, namespace: str) -> None:
        self._cluster, self.namespace = cluster, namespace

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        return self._cluster.kubectl("--namespace", self.namespace, *arguments, text=text)

    def pods(self) -> list[str]:
        names = self.kubectl("get", "pods", "--selector=app=model", "--output=name")
        return [name.removeprefix("pod/") for name in names.split()]

    def inside(self, pod: str, code: str) -> str:
        """What Python prints in the pod."""
        return self.kubectl("exec", pod, "--", "python", "-c", code).strip()

    def client(self, code: str) -> subprocess.Popen[str]:
        """Python in the client's pod, with its input and output at hand."""
        command = self._cluster.command(
            f"--namespace={self.namespace}", "exec", "--stdin", "client", "--", "python", "-c", code
        )
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._cluster.environment()
        )


@pytest.fixture(scope="module")
def workload(node: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workload]:
    namespace = "test-workload"
    node.kubectl("create", "namespace", namespace)
    node.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    workload = Workload(node, namespace)
    try:
        _apply(workload, node, tmp_path_factory.mktemp("data"))
        yield workload
    finally:
        node.kubectl("delete", "namespace", namespace, "--timeout=180s")


def _apply(workload: Workload, node: Access, folder: Path) -> None:
    (folder / "river.txt").write_text("from an image\n")
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY river.txt /\n")
    data = images.publish_folder(node, folder, "test-data")
    text = (Path(__file__).parent / "workload.yaml").read_text()
    workload.kubectl("create", "configmap", "source", f"--from-file=model.yaml={MODEL}")
    workload.kubectl("apply", "--filename=-", text=text.replace("IMAGE", node.image("runtime")).replace("DATA", data))
    workload.kubectl("rollout", "status", "deployment/model", "--timeout=240s")
    workload.kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=180s")


def test_the_node_is_ready(node: Access) -> None:
    [found] = json.loads(node.kubectl("get", "nodes", "--output=json"))["items"]

    [ready] = [condition["status"] for condition in found["status"]["conditions"] if condition["type"] == "Ready"]
    assert ready == "True"


def test_a_deployment_of_three_with_grpc_probes_becomes_available(workload: Workload) -> None:
    status = json.loads(workload.kubectl("get", "deployment", "model", "--output=json"))["status"]

    assert status["availableReplicas"] == 3


def test_a_pod_of_any_user_answers_a_prediction_by_its_services_name(workload: Workload) -> None:
    values = "values=[[1, 2, 6]]"
    answer = workload.kubectl("exec", "client", "--", "model-runtime", "predict", "model:9090", values)

    assert json.loads(answer) == {"mean": [3.0], "largest": [2]}
    assert workload.inside("client", "import os; print(os.getuid())") == "31337"


def test_logs_can_be_read(workload: Workload) -> None:
    pod = workload.pods()[0]

    assert "serving" in workload.kubectl("logs", pod, "--container=runtime")


def test_every_kind_of_volume_holds_what_it_should(workload: Workload) -> None:
    pod = workload.pods()[0]
    files = ["/source/model.yaml", "/model/built/contract.protobin", "/data/river.txt"]
    sizes = workload.inside(pod, f"import os; print(*[os.path.getsize(file) for file in {files}])")

    assert sizes.split()[0] == str(MODEL.stat().st_size)  # the ConfigMap
    assert int(sizes.split()[1]) > 0  # the emptyDir, by the init container
    assert workload.inside(pod, "print(open('/data/river.txt').read())") == "from an image"
    assert workload.inside(pod, "import os; print(os.access('/data', os.W_OK))") == "False"


def test_what_one_pod_writes_to_a_claimed_volume_another_reads(workload: Workload) -> None:
    first, second, _ = workload.pods()
    workload.inside(first, "open('/disk/note', 'w').write('kept')")

    assert workload.inside(second, "print(open('/disk/note').read())") == "kept"


def test_a_headless_service_resolves_to_every_pod(workload: Workload) -> None:
    addresses = json.loads(workload.kubectl("get", "pods", "--selector=app=model", "--output=json"))["items"]
    code = (
        "import json, socket\n"
        "found = socket.getaddrinfo('model-headless', 9090, type=socket.SOCK_STREAM)\n"
        "print(json.dumps(sorted({entry[4][0] for entry in found})))"
    )

    assert json.loads(workload.inside("client", code)) == sorted(pod["status"]["podIP"] for pod in addresses)


def test_port_forward_reaches_a_pod(workload: Workload, node: Access) -> None:
    command = node.command("--namespace", workload.namespace, "port-forward", "service/model", ":9090")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=node.environment()) as forward:
        assert forward.stdout is not None
        port = forward.stdout.readline().split()[2].rpartition(":")[2]
        check = [sys.executable, "-m", "model_runtime", "predict", f"127.0.0.1:{port}", "values=[[4, 0, 2]]"]
        answer = subprocess.run(check, capture_output=True, text=True, timeout=60)
        forward.kill()

    assert json.loads(answer.stdout)["mean"] == [2.0], answer.stderr


def test_pod_security_refuses_a_plain_pod(workload: Workload, node: Access) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        workload.kubectl("run", "plain", f"--image={node.image('runtime')}")

    assert "violates PodSecurity" in refused.value.stderr


def test_a_rolling_update_loses_nothing(workload: Workload) -> None:
    before = set(workload.pods())
    with workload.client(LOAD) as load:
        time.sleep(2)
        workload.kubectl("set", "env", "deployment/model", "MAX_QUEUE=900")
        workload.kubectl("rollout", "status", "deployment/model", "--timeout=240s")
        workload.kubectl("wait", "--for=delete", *(f"pod/{pod}" for pod in before), "--timeout=180s")
        out, _ = load.communicate("stop\n", timeout=60)
    result = json.loads(out)
    print(f"\n{result['asked']} connections during the update")

    assert before.isdisjoint(workload.pods())
    assert result["lost"] == []
    assert result["asked"] > 100


def test_a_component_that_is_killed_comes_back_and_the_pods_never_notice(workload: Workload, node: Access) -> None:
    if not node.inside:
        pytest.skip("a cluster of one's own is not broken by tests")
    began = _containers(workload)
    for component in ("kubelet", "containerd"):
        subprocess.run([*node.inside, "sh", "-c", f"kill -9 $(pidof {component})"], check=True)
    time.sleep(3)
    workload.kubectl("apply", "--filename=-", text=_pod("late", node.image("runtime")))
    workload.kubectl("wait", "--for=condition=Ready", "pod/late", "--timeout=180s")

    assert _containers(workload) == began


def _containers(workload: Workload) -> dict[str, str]:
    pods = json.loads(workload.kubectl("get", "pods", "--selector=app=model", "--output=json"))["items"]
    statuses = [pod["status"]["containerStatuses"][0] for pod in pods]
    return {status["containerID"]: status["state"]["running"]["startedAt"] for status in statuses}


def _pod(name: str, image: str) -> str:
    contained = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {"name": "c", "image": image, "command": ["sleep", "infinity"], "securityContext": contained}
    person = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"containers": [container], "securityContext": person, "terminationGracePeriodSeconds": 0}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
