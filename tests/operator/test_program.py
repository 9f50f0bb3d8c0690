"""The operator as a program: its settings, its last words, its probes, metrics and logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from operating import IMAGE, Operator, World, eventually, runtime
from serving import free_port

from model_runtime_operator.settings import InvalidSetting, from_environment


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"RUNTIME_IMAGE": ""}, "RUNTIME_IMAGE: expected the image of the runtime, got nothing"),
        ({"WORKERS": "0"}, "WORKERS: expected a number from 1 to 256, got '0'"),
        ({"WORKERS": "many"}, "WORKERS: expected a number from 1 to 256, got 'many'"),
        ({"RESYNC_SECONDS": "nan"}, "RESYNC_SECONDS: expected a number"),
        ({"HTTP_PORT": "65536"}, "HTTP_PORT: expected a number from 0 to 65535"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL: expected debug or info or warning or error, got 'loud'"),
        ({"LOG_FORMAT": "xml"}, "LOG_FORMAT: expected text or json, got 'xml'"),
        ({"LEADER_ELECTION": "perhaps"}, "LEADER_ELECTION: expected true or false, got 'perhaps'"),
        ({"IMAGE_VOLUMES": "maybe"}, "IMAGE_VOLUMES: expected auto or true or false, got 'maybe'"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(variables: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidSetting) as raised:
        from_environment({"RUNTIME_IMAGE": IMAGE, **variables})

    assert words in str(raised.value)


def test_settings_are_what_the_environment_says() -> None:
    given = {
        "RUNTIME_IMAGE": IMAGE,
        "WATCH_NAMESPACES": "a, b,",
        "LEADER_ELECTION": "false",
        "POD_NAME": "op-0",
        "IMAGE_VOLUMES": "false",
    }

    settings = from_environment(given)

    assert (settings.runtime_image, settings.namespaces, settings.leader_election) == (IMAGE, ("a", "b"), False)
    assert (settings.identity, settings.image_volumes, settings.kubeconfig) == ("op-0", False, None)


def test_a_program_that_cannot_start_says_why_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "model_runtime_operator"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 2
    assert done.stderr == "model-runtime-operator: RUNTIME_IMAGE: expected the image of the runtime, got nothing\n"


@pytest.mark.apiserver
@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become somebody without a name")
def test_an_arbitrary_user_without_a_name_runs_it(world: World, tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_bytes(world.api.kubeconfig.read_bytes())
    config.chmod(0o644)
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    port = free_port()
    variables = {
        "PATH": os.environ["PATH"], "HOME": "/nonexistent", "KUBECONFIG": str(config), "RUNTIME_IMAGE": IMAGE,
        "HTTP_PORT": str(port), "LEADER_ELECTION": "false", "WATCH_NAMESPACES": world.namespace, "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", _AS_NOBODY], env=variables, stderr=subprocess.PIPE)
    operator = Operator.__new__(Operator)
    operator.port, operator.process = port, process
    try:
        operator.wait_ready()
    finally:
        process.kill()
        process.communicate()


# The interpreter may live where only root can read: so it loads everything first, and becomes another afterwards.
_AS_NOBODY = """
import os, sys
from model_runtime_operator import __main__, handlers, probes, engine
import aiohttp, kopf, encodings.idna
os.setgroups([]); os.setgid(54321); os.setuid(54321)
sys.exit(__main__.main())
"""


@pytest.mark.apiserver
def test_probes_and_metrics_tell_how_the_operator_is(world: World, operator: Operator) -> None:
    world.apply(runtime())
    world.await_reason("adder", "Deploying")

    assert operator.probe("healthz") == 200
    assert operator.probe("readyz") == 200
    assert operator.metric("model_runtime_operator_reconciles_total", outcome="done") >= 1
    assert operator.metric("model_runtime_operator_writes_total", kind="Deployment", verb="PATCH") == 1
    assert operator.metric("model_runtime_operator_api_calls_total", method="PATCH") >= 5
    assert operator.metric("model_runtime_operator_leading") == 1
    eventually(lambda: operator.metric("model_runtime_operator_modelruntimes", reason="Deploying") == 1)


@pytest.mark.apiserver
def test_the_log_is_json_where_that_is_asked_for_and_holds_no_payload(
    world: World, start: Callable[..., Operator]
) -> None:
    operator = start(LOG_FORMAT="json")
    operator.wait_ready()
    world.apply(runtime(env=[{"name": "PASSWORD", "value": "do-not-tell"}]))
    world.await_reason("adder", "Deploying")
    assert operator.stop() == 0

    text = operator.log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert {"time", "level", "message"} <= set(lines[0])
    assert any(line.get("modelruntime") == "adder" and line.get("reason") == "RolloutStarted" for line in lines)
    assert "do-not-tell" not in text


@pytest.mark.apiserver
def test_the_runtimes_image_is_read_from_the_pod_template_and_followed(
    world: World, start: Callable[..., Operator]
) -> None:
    def template(image: str) -> dict[str, Any]:
        container = {"name": "runtime", "image": image}
        metadata = {"name": "release-runtime", "namespace": world.namespace}
        pod = {"spec": {"containers": [container]}}
        return {"apiVersion": "v1", "kind": "PodTemplate", "metadata": metadata, "template": pod}

    def image() -> str:
        [container] = world.get("deployment", "adder")["spec"]["template"]["spec"]["containers"]
        return str(container["image"])

    world.kubectl("apply", "-f", "-", text=json.dumps(template("example.com/runtime:1")))
    start(world.api.kubeconfig, RUNTIME_IMAGE="", RUNTIME_TEMPLATE="release-runtime", POD_NAMESPACE=world.namespace)
    world.apply(runtime())
    eventually(lambda: "adder" in world.names("deployments"), 20)
    assert image() == "example.com/runtime:1"

    world.kubectl("apply", "-f", "-", text=json.dumps(template("example.com/runtime:2")))
    eventually(lambda: image() == "example.com/runtime:2", 45)
