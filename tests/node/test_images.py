"""The images as registries and pods see them: what their configuration promises, and a child image made as Hydrosphere does."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cluster import images
from cluster.access import Access
from cluster.registry import Repository

MODEL = """
apiVersion: runtime.hydrosphere.io/v1alpha1
kind: ModelRuntime
metadata: {name: child}
spec:
  contract:
    name: predict
    inputs: {x: {shape: [-1], type: double}}
    outputs: {y: {shape: [-1], type: double}}
  model:
    inline:
      src/func_main.py: |
        import doubling
        def predict(x):
            return {"y": doubling.double(x)}
"""
# What Hydrosphere's manager writes, from 2.0 to 3.0: no user, no command, no port of its own.
CHILD = """\
FROM localhost/model-runtime:{version}
LABEL MODEL_NAME=child MODEL_VERSION=1
ADD model /model
WORKDIR /model/files
RUN pip install --no-index doubling-1.0-py3-none-any.whl
"""
# Every source file of both packages, by its hash.
CODE = """
import hashlib, importlib.util, json, pathlib
def code():
    roots = [pathlib.Path(importlib.util.find_spec(name).origin).parent for name in ("model_runtime", "model_runtime_operator")]
    files = [(root.parent, file) for root in roots for file in root.rglob("*.py")]
    return {str(file.relative_to(parent)): hashlib.sha256(file.read_bytes()).hexdigest() for parent, file in files}
"""
LAYERS_MIB = 150  # compressed, with the base of this machine; today 100
pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]  # a busy machine takes its time


@pytest.mark.parametrize("target", ["runtime", "operator"])
def test_an_image_runs_as_a_numbered_user_by_an_absolute_program_and_has_no_volume(node: Access, target: str) -> None:
    config = _configuration(node, target)["config"]

    assert config["User"] == "65532:65532"
    assert config["Entrypoint"][0].startswith("/opt/model-runtime/bin/")
    assert not config.get("Volumes")
    assert config["Labels"]["org.opencontainers.image.version"] == images.version()


def test_the_runtimes_image_is_one_that_hydrosphere_can_use(node: Access) -> None:
    config = _configuration(node, "runtime")["config"]

    assert config["Labels"]["DEPLOYMENT_TYPE"] == "APP"
    assert "9090/tcp" in config["ExposedPorts"]
    assert "APP_PORT=9090" in config["Env"]
    assert config["Healthcheck"]["Test"][0] == "CMD"


@pytest.mark.parametrize("target", ["runtime", "operator"])
def test_an_image_stays_small(node: Access, target: str) -> None:
    sizes = [layer["size"] / 2**20 for layer in _manifest(node, target)["layers"]]
    print(f"\n{target}: {sum(sizes):.0f} MiB compressed, layers {', '.join(f'{size:.1f}' for size in sizes)}")

    assert sum(sizes) < LAYERS_MIB
    assert sizes[-1] < 2, "our own code is a layer of its own"


def test_a_child_image_made_by_hydrosphere_serves_and_is_healthy(
    node: Access, node_namespace: str, tmp_path: Path
) -> None:
    image = images.publish_folder(node, _child(tmp_path), "test-child")
    check = _configuration(node, "runtime")["config"]["Healthcheck"]["Test"][1:]
    inside = ("--namespace", node_namespace, "exec", "child", "--")
    node.kubectl("--namespace", node_namespace, "apply", "--filename=-", text=json.dumps(_pod(image)))
    node.kubectl("--namespace", node_namespace, "wait", "--for=condition=Ready", "pod/child", "--timeout=180s")

    answer = node.kubectl(*inside, "model-runtime", "predict", "localhost:9091", "x=[1.5, 2]")
    assert json.loads(answer) == {"y": [3.0, 4.0]}
    node.kubectl(*inside, *check)  # exits 0: healthy
    with pytest.raises(subprocess.CalledProcessError):
        node.kubectl(*inside, "env", "APP_PORT=1", *check)


def test_the_images_hold_this_trees_code(node: Access, node_namespace: str) -> None:
    """Not that of the build before, which a cache may keep under the same version."""
    node.kubectl("--namespace", node_namespace, "apply", "--filename=-", text=json.dumps(_idle(node.image("operator"))))
    node.kubectl("--namespace", node_namespace, "wait", "--for=condition=Ready", "pod/idle", "--timeout=180s")
    inside = ("--namespace", node_namespace, "exec", "idle", "--")
    packed = json.loads(node.kubectl(*inside, "python", "-c", f"{CODE}\nprint(json.dumps(code()))"))
    names: dict[str, object] = {}
    exec(CODE, names)

    assert packed == names["code"](), "run `make images`"  # type: ignore[operator]


def _child(folder: Path) -> Path:
    """The build context that Hydrosphere's manager lays out."""
    (folder / "child.yaml").write_text(MODEL)
    build = ["build", str(folder / "child.yaml"), "--output", str(folder / "model")]
    subprocess.run([sys.executable, "-m", "model_runtime", *build], check=True, capture_output=True)
    _wheel(folder / "model" / "files")
    (folder / "Dockerfile").write_text(CHILD.format(version=images.version()))
    return folder


def _wheel(folder: Path) -> None:
    """A library that pip can install without a network."""
    about = "doubling-1.0.dist-info"
    files = {
        "doubling.py": "def double(x):\n    return 2 * x\n",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: doubling\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{about}/RECORD"])
    with zipfile.ZipFile(folder / "doubling-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)


def _pod(image: str) -> dict[str, Any]:
    contained = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "model",
        "image": image,
        "env": [{"name": "APP_PORT", "value": "9091"}],  # forced by every manager since 2.0
        "readinessProbe": {"grpc": {"port": 9091}, "periodSeconds": 1},
        "securityContext": contained,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    spec = {
        "containers": [container],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 4711, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "child"}, "spec": spec}


def _idle(image: str) -> dict[str, Any]:
    pod = _pod(image)
    container = {**pod["spec"]["containers"][0], "command": ["sleep", "infinity"]}
    del container["readinessProbe"]
    spec = {**pod["spec"], "containers": [container], "terminationGracePeriodSeconds": 0}
    return {**pod, "metadata": {"name": "idle"}, "spec": spec}


def _manifest(node: Access, target: str) -> dict[str, Any]:
    repository, digest = _place(node, target)
    return repository.manifest(digest)


def _configuration(node: Access, target: str) -> dict[str, Any]:
    repository, digest = _place(node, target)
    return repository.configuration(digest)


def _place(node: Access, target: str) -> tuple[Repository, str]:
    path, _, digest = node.image(target).removeprefix(f"{node.pull}/").partition("@")
    return Repository(node.push, path), digest
