"""What each sample becomes: golden objects, accepted by the real API server with strict field validation.

`REFRESH_GOLDEN=1 pytest tests/operator/test_golden.py` writes them anew.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from operating import IMAGE, ROOT, SAMPLES, World, sample

from model_runtime_operator import desired, spec
from model_runtime_operator.desired import Dict, Files, Platform
from model_runtime_operator.spec import Object

GOLDEN = ROOT / "tests" / "golden" / "operator"
NAMES = sorted(path.stem for path in SAMPLES.glob("*.yaml"))


PLATFORM = Platform(IMAGE)


def objects(name: str, platform: Platform = PLATFORM) -> list[Dict]:
    documents = sample(name)
    [body] = [each for each in documents if each["kind"] == "ModelRuntime"]
    maps = [each for each in documents if each["kind"] == "ConfigMap"]
    body["metadata"] |= {"namespace": "default", "uid": "00000000-0000-0000-0000-000000000001"}
    return desired.objects(spec.parse(body), platform, _files(maps[0]) if maps else None)


def _files(config_map: Object) -> Files:
    content = {**config_map.get("data", {}), **config_map.get("binaryData", {})}
    return Files({key: hashlib.sha256(value.encode()).hexdigest() for key, value in content.items()})


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_becomes_its_golden_objects(name: str) -> None:
    text = yaml.safe_dump_all(objects(name), sort_keys=False, width=130)
    golden = GOLDEN / f"{name}.yaml"
    if os.environ.get("REFRESH_GOLDEN"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)

    assert text == golden.read_text()


def test_every_golden_file_belongs_to_a_sample() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.yaml")) == NAMES


def test_the_same_sample_gives_the_same_bytes_whatever_the_order_of_its_fields() -> None:
    body = sample("digits")[0]
    body["metadata"] |= {"namespace": "default", "uid": "1"}
    outputs = body["spec"]["contract"]["outputs"]
    files = Files({"func_main.py": "a", "model.joblib": "b"})
    turned = {
        **body,
        "spec": {**body["spec"], "contract": {**body["spec"]["contract"], "outputs": dict(reversed(outputs.items()))}},
    }

    assert desired.objects(spec.parse(body), Platform(IMAGE), files) == desired.objects(
        spec.parse(turned), Platform(IMAGE), files
    )


def test_an_image_is_copied_where_the_cluster_cannot_mount_it() -> None:
    pod = _pod(objects("source-image", Platform(IMAGE, image_volumes=False)))

    assert [step["name"] for step in pod["initContainers"]] == ["copy"]
    assert pod["initContainers"][0]["command"] == ["cp", "-R", "/model/.", "/target/"]
    assert not any("image" in volume for volume in pod["volumes"])


@pytest.mark.parametrize("name", NAMES)
def test_pods_keep_the_rules_of_the_restricted_level(name: str) -> None:
    pod = _pod(objects(name))

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "runAsUser" not in pod["securityContext"]
    assert pod["automountServiceAccountToken"] is False
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("name", NAMES)
def test_the_runtime_cannot_write_to_its_model(name: str) -> None:
    [container] = _pod(objects(name))["containers"]

    writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert not any(path.startswith("/model") for path in writable)
    assert set(writable) <= {"/tmp", "/dev/shm", "/var/cache/model"}


def _pod(rendered: list[Dict]) -> dict[str, Any]:
    [deployment] = [each for each in rendered if each["kind"] == "Deployment"]
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return pod


@pytest.mark.apiserver
def test_the_api_server_accepts_every_golden_object_strictly(world: World, tmp_path: Path) -> None:
    world.kubectl("label", "namespace", world.namespace, "pod-security.kubernetes.io/enforce=restricted")
    for name in NAMES:
        text = (GOLDEN / f"{name}.yaml").read_text().replace("namespace: default", f"namespace: {world.namespace}")

        answer = world.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", text=text)

        assert answer.count("serverside-applied") == text.count("\nkind: ")
        assert "Warning" not in answer
