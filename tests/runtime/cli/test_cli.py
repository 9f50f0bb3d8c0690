"""The command line, as a process, as a person types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from environments import ROOT
from serving import ECHO_CONTRACT, free_port, model_directory, wait_health

from model_runtime import contract

SAMPLES = ROOT / "manifests" / "samples"
ECHO_CONTRACT_SIDES = {side: ECHO_CONTRACT[side] for side in ("inputs", "outputs")}
QUICK = ["inline-numpy", "nested-strings", "tensorproto"]  # digits installs scikit-learn: see test_digits


def cli(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "model_runtime", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, **options)


def test_help_lists_the_commands_and_the_exit_statuses() -> None:
    done = cli("--help")

    assert done.returncode == 0
    for word in ("serve", "run", "build", "inspect", "predict", "check", "Exit statuses", "_MODEL_RUNTIME_COMPLETE"):
        assert word in done.stdout


@pytest.mark.parametrize("command", ["serve", "run", "build", "inspect", "predict", "check", "install"])
def test_every_command_explains_itself(command: str) -> None:
    done = cli(command, "--help")

    assert done.returncode == 0
    assert "Usage: model-runtime" in done.stdout


def test_serve_help_lists_every_setting() -> None:
    text = cli("serve", "--help").stdout

    assert "APP_PORT [9090]" in text
    assert "MODEL_DIR [/model]" in text
    assert "MAX_MESSAGE_BYTES [536870912]" in text


# run, build -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUICK)
def test_every_sample_answers_a_prediction(name: str) -> None:
    done = cli("run", SAMPLES / f"{name}.yaml", "--predict")

    assert done.returncode == 0, done.stderr
    outputs = yaml.safe_load((SAMPLES / f"{name}.yaml").read_text())["spec"]["contract"]["outputs"]
    assert json.loads(done.stdout).keys() == outputs.keys()


def test_inputs_of_run_can_be_given() -> None:
    done = cli("run", SAMPLES / "inline-numpy.yaml", "--predict", "-i", "values=[[1, 2, 6], [9, 0, 0]]")

    assert json.loads(done.stdout) == {"mean": [3.0, 3.0], "largest": [2, 0]}


def test_run_serves_until_interrupted_and_leaves_nothing_behind(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "model_runtime", "run", str(SAMPLES / "inline-numpy.yaml"), "--port", str(port)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    ) as running:
        wait_health(f"localhost:{port}", 1, 20)
        assert cli("predict", f"localhost:{port}").returncode == 0
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=20)

    assert running.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_build_writes_the_model_directory(tmp_path: Path) -> None:
    done = cli("build", SAMPLES / "tensorproto.yaml", "-o", tmp_path / "model")

    assert done.returncode == 0, done.stderr
    assert sorted(
        str(path.relative_to(tmp_path / "model")) for path in (tmp_path / "model").rglob("*") if path.is_file()
    ) == [
        "contract.protobin",
        "files/src/func_main.py",
    ]
    assert (
        str(contract.read((tmp_path / "model" / "contract.protobin").read_bytes()))
        == "double(x: int64[*]) -> y: int64[*]"
    )


def runtime_file(path: Path, **spec: Any) -> Path:
    spec = {
        "contract": ECHO_CONTRACT,
        "model": {"inline": {"src/func_main.py": "def echo(x):\n    return {'y': x}\n"}},
        **spec,
    }
    file = path / "runtime.yaml"
    file.write_text(yaml.safe_dump({"kind": "ModelRuntime", "metadata": {"name": "test"}, "spec": spec}))
    return file


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (
            {"contract": {"inputs": {}, "outputs": {"y": {"type": "doubel"}}}},
            "unknown type 'doubel': did you mean 'double'?",
        ),
        ({"contract": None}, "spec.contract: expected a mapping, got nothing"),
        ({"contract": {"protobin": "!!"}}, "spec.contract.protobin: expected base64"),
        ({"model": {}}, "spec.model: expected exactly one source, got none"),
        ({"model": {"inline": {}, "http": {}}}, "spec.model: expected exactly one source, got http, inline"),
        ({"model": {"inlin": {}}}, "no source is called 'inlin', did you mean 'inline'?"),
        (
            {"model": {"s3": {"bucket": "b"}}},
            "the source s3 is in the cluster; give the model's files with --files DIR",
        ),
        ({"model": {"configMap": {"name": "gone"}}}, "the ConfigMap 'gone' is not in this file"),
        ({"model": {"inline": {"../x.py": ""}}}, "'../x.py': expected a relative path without '..'"),
        ({"model": {"inline": {"main.py": ""}}}, "the model has no src/func_main.py, got main.py"),
        ({"requirements": {"file": "needed.txt"}}, "the model has no needed.txt, only src/func_main.py"),
        ({"requirements": "numpy"}, "spec.requirements: expected a list of requirements or {file: …}, got 'numpy'"),
    ],
)
def test_a_file_that_describes_no_model_is_refused_with_the_place(
    tmp_path: Path, spec: dict[str, Any], text: str
) -> None:
    done = cli("build", runtime_file(tmp_path, **spec), "-o", tmp_path / "out")

    assert done.returncode == 3
    assert text in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "text"),
    [("a: [", "expected YAML"), ("kind: Pod", "expected a ModelRuntime, got Pod"), ("", "got nothing")],
)
def test_a_file_that_is_no_modelruntime_is_refused(tmp_path: Path, content: str, text: str) -> None:
    (tmp_path / "file.yaml").write_text(content)

    done = cli("build", tmp_path / "file.yaml", "-o", tmp_path / "out")

    assert done.returncode == 3
    assert text in done.stderr


def test_files_can_come_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "mine" / "src").mkdir(parents=True)
    (tmp_path / "mine" / "src" / "func_main.py").write_text("def echo(x):\n    return {'y': x + 1}\n")
    file = runtime_file(tmp_path, model={"s3": {"bucket": "b"}})

    done = cli("run", file, "--files", tmp_path / "mine", "--predict", "-i", "x=[1.5]")

    assert json.loads(done.stdout) == {"y": [2.5]}


def test_the_environment_of_the_modelruntime_reaches_the_model(tmp_path: Path) -> None:
    code = "import os\n\ndef echo(x):\n    return {'y': [float(os.environ['FACTOR'])]}\n"
    file = runtime_file(
        tmp_path, model={"inline": {"src/func_main.py": code}}, env=[{"name": "FACTOR", "value": "2.5"}]
    )

    assert json.loads(cli("run", file, "--predict").stdout) == {"y": [2.5]}


def test_a_model_that_cannot_be_loaded_ends_run_with_one_line(tmp_path: Path) -> None:
    done = cli(
        "run", runtime_file(tmp_path, model={"inline": {"src/func_main.py": "import nothing_like_it"}}), "--predict"
    )

    assert done.returncode == 4
    assert "No module named 'nothing_like_it' (files/src/func_main.py, line 1)" in done.stderr


def test_a_port_in_use_is_an_exit_status_of_its_own(tmp_path: Path, serve: Any) -> None:
    taken = serve().target.partition(":")[2]

    done = cli("run", runtime_file(tmp_path), "--port", taken)

    assert done.returncode == 5


@pytest.mark.parametrize("port", ["0", "99999", "http"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    done = cli("run", SAMPLES / "inline-numpy.yaml", "--port", port)

    assert done.returncode == 2
    assert f"expected a whole number from 1 to 65535, got '{port}'" in done.stderr


# predict ------------------------------------------------------------------------------------------------------------

MIXED = {
    "name": "mixed",
    "inputs": {
        "n": {"shape": "scalar", "type": "int32"},
        "s": {"shape": "scalar", "type": "string"},
        "m": {"shape": [-1, 2], "type": "double"},
    },
    "outputs": {"text": {"shape": "scalar", "type": "string"}, "m": {"shape": [-1, 2], "type": "double"}},
}
MIXED_CODE = "def mixed(n, s, m):\n    return {'text': f'{s}{n}', 'm': m * n}\n"


def test_inputs_are_made_up_from_the_contract(serve: Any) -> None:
    done = cli("predict", serve(MIXED_CODE, MIXED).target)

    assert json.loads(done.stdout) == {"text": "11", "m": [[1.0, 1.0]]}


@pytest.mark.parametrize("protocol", ["0.0.5", "v2", "v3", "open-inference"])
def test_inputs_are_named_values(serve: Any, protocol: str) -> None:
    done = cli("predict", serve(MIXED_CODE, MIXED).target, "n=3", "s=abc", "m=[[1, 2]]", "--protocol", protocol)

    assert json.loads(done.stdout) == {"text": "abc3", "m": [[3.0, 6.0]]}


def test_inputs_come_from_json_and_numpy_files(serve: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.array([[4.0, 5.0]]))
    (tmp_path / "rest.json").write_text('{"n": 2, "s": "x"}')

    done = cli("predict", serve(MIXED_CODE, MIXED).target, f"@{tmp_path / 'rest.json'}", f"m=@{tmp_path / 'm.npy'}")

    assert json.loads(done.stdout) == {"text": "x2", "m": [[8.0, 10.0]]}


def test_an_answer_can_be_a_table(serve: Any) -> None:
    done = cli("predict", serve(MIXED_CODE, MIXED).target, "-o", "table")

    assert done.stdout.splitlines() == ['text  str_          "11"', "m     float64[1,2]  [[1.0, 1.0]]"]


@pytest.mark.parametrize(
    ("inputs", "status", "text"),
    [
        (["n=3.5", "s=a", "m=[[1,2]]"], 2, "inputs.n: expected int32, got double"),
        (["n=3", "s=a", "m=[1,2,"], 2, "expected JSON"),
        (["n=3", "s=a", "m=@gone.npy"], 2, "gone.npy: No such file or directory"),
        (["what"], 2, "expected JSON"),
        (["n=3", "s=a", "m=[[1,2]]", "more=1"], 1, "inputs.more: not in the contract, expected n, s, m"),
    ],
)
def test_inputs_that_cannot_be_sent_are_told(serve: Any, inputs: list[str], status: int, text: str) -> None:
    done = cli("predict", serve(MIXED_CODE, MIXED).target, *inputs)

    assert (done.returncode, text in done.stderr) == (status, True), done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_at_the_address_is_told_at_once() -> None:
    started = time.monotonic()

    done = cli("predict", f"localhost:{free_port()}", "x=1", "--timeout", "5")

    assert done.returncode == 1
    assert "UNAVAILABLE" in done.stderr
    assert time.monotonic() - started < 20


# inspect, check -----------------------------------------------------------------------------------------------------


def test_inspect_shows_the_contract_and_what_is_in_the_directory(tmp_path: Path) -> None:
    done = cli("inspect", model_directory(tmp_path))

    assert done.returncode == 0
    assert "ModelContract (v0, v2)" in done.stdout
    assert "echo(x: double[*]) -> y: double[*]" in done.stdout
    assert "1 files" in done.stdout


def test_inspect_prints_yaml_that_can_be_built_again(tmp_path: Path) -> None:
    printed = cli("inspect", model_directory(tmp_path, era="v3") / "contract.protobin", "--yaml").stdout

    assert contract.parse(yaml.safe_load(printed)).signatures == contract.parse(ECHO_CONTRACT).signatures


def test_inspect_lists_what_breaks_for_clients(tmp_path: Path) -> None:
    old = model_directory(tmp_path / "old")
    new = model_directory(
        tmp_path / "new", promise={**ECHO_CONTRACT, "inputs": {"x": {"shape": [4], "type": "double"}}}
    )

    done = cli("inspect", new, "--against", old)

    assert done.returncode == 1
    assert done.stdout == "echo.inputs.x: shape changed from [*] to [4]\n"
    assert cli("inspect", old, "--against", old).stdout == "compatible\n"


def test_inspect_of_something_else_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "contract.protobin").write_bytes(b"nothing of the kind")

    done = cli("inspect", tmp_path)

    assert done.returncode == 3
    assert done.stderr.startswith(f"model-runtime: {tmp_path}/contract.protobin: ")


def test_check_passes_a_good_runtime_and_a_good_directory(serve: Any, tmp_path: Path) -> None:
    runtime = cli("check", serve(MIXED_CODE, MIXED).target)
    directory = cli("check", model_directory(tmp_path / "good"))

    assert runtime.returncode == 0, runtime.stdout
    assert "FAIL" not in runtime.stdout
    assert runtime.stdout.count("ok ") > 10
    assert directory.returncode == 0, directory.stdout


def test_check_finds_what_is_wrong_with_a_directory(tmp_path: Path) -> None:
    done = cli("check", model_directory(tmp_path, "def echo(x):\n    return {'y': 'text'}\n"))

    assert done.returncode == 1
    assert (
        "FAIL  OutputMismatch: the model's function 'echo' broke its contract; outputs.y: expected double, got string"
        in done.stdout
    )


def test_check_of_nobody_says_so() -> None:
    done = cli("check", f"localhost:{free_port()}", "--timeout", "1")

    assert done.returncode == 1
    assert "no connection to" in done.stdout


# install, digits ----------------------------------------------------------------------------------------------------


def test_the_digits_sample_reads_real_handwriting(tmp_path: Path) -> None:
    """Installs scikit-learn into the model's own directory; nothing of it enters this environment."""
    example = json.loads((SAMPLES / "digits" / "examples.json").read_text())[0]

    done = cli("run", SAMPLES / "digits.yaml", "--predict", "-i", f"pixels={[example['pixels']]}")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["digit"] == [example["digit"]]
    assert cli("install", "--help").returncode == 0
    with pytest.raises(ImportError):
        __import__("sklearn")


def test_requirements_are_installed_once_and_recorded(tmp_path: Path) -> None:
    model = model_directory(tmp_path, "import six\n\ndef echo(x):\n    return {'y': x}\n")
    (model / "files" / "requirements.txt").write_text("six==1.16.0  # small\n")

    first = cli("install", model)
    second = cli("install", model)

    assert first.returncode == 0, first.stderr
    assert json.loads((model / "lib.lock").read_text())["installed"] == {"six": "1.16.0"}
    assert "installed already" in second.stderr
    assert cli("check", model).returncode == 0


def test_a_requirement_that_does_not_exist_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    model, last_words = model_directory(tmp_path / "model"), tmp_path / "termination-log"
    last_words.touch()

    done = cli(
        "install", model, "no-such-package-of-this-name==1.0", env={**os.environ, "TERMINATION_LOG": str(last_words)}
    )

    assert done.returncode == 6
    assert "requirements no-such-package-of-this-name==1.0 cannot be installed" in done.stderr
    assert last_words.read_text().startswith("RequirementsFailed: requirements no-such-package")
    assert sorted(path.name for path in model.iterdir()) == ["contract.protobin", "files"]


def test_requirements_come_from_a_folder_of_wheels_without_a_network(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", wheels, "six==1.16.0"], check=True
    )

    done = cli("install", model_directory(tmp_path / "model"), "six", "--wheels", wheels)

    assert done.returncode == 0, done.stderr


def test_a_config_map_without_items_maps_keys_to_paths_as_the_operator_does(tmp_path: Path) -> None:
    documents = [
        {
            "kind": "ModelRuntime",
            "metadata": {"name": "test"},
            "spec": {
                "contract": {"signatures": {"echo": ECHO_CONTRACT_SIDES}},
                "model": {"configMap": {"name": "files"}},
            },
        },
        {
            "kind": "ConfigMap",
            "metadata": {"name": "files"},
            "data": {"src__func_main.py": "def echo(x):\n    return {'y': x}\n"},
        },
    ]
    file = tmp_path / "runtime.yaml"
    file.write_text(yaml.safe_dump_all(documents))

    assert json.loads(cli("run", file, "--predict", "-i", "x=[2.5]").stdout) == {"y": [2.5]}
