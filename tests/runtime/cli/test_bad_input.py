"""What a person may get wrong on the command line: one clear line, a documented exit status, never a traceback or a wait."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml
from environments import ROOT
from serving import ECHO_CONTRACT, free_port, model_directory

from model_runtime.cli import main, modelruntime
from model_runtime.server import logs, program

SAMPLE = ROOT / "manifests" / "samples" / "inline-numpy.yaml"
COMMAND = [sys.executable, "-m", "model_runtime"]


def cli(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs the command line as a process."""
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=60, **options)


def here(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the command line in this process, which is ten times as fast: for what ends before anything is served."""
    output, errors = io.StringIO(), io.StringIO()
    logger = logging.getLogger(logs.ROOT)
    before = logger.handlers[:], logger.propagate, logger.level
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        patch.setattr(sys, "argv", ["model-runtime", *map(str, arguments)])
        status = main()
    logger.handlers[:], logger.propagate, logger.level = before
    return subprocess.CompletedProcess(arguments, status, output.getvalue(), errors.getvalue())


def refused(done: subprocess.CompletedProcess[str], status: int, text: str) -> None:
    assert text in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert done.returncode == status
    assert status in program.EXIT_MEANINGS


# A runtime that is not there ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [[], ["x=1"]])
def test_predict_of_a_dead_server_says_so_at_once(inputs: list[str]) -> None:
    started = time.monotonic()

    done = cli("predict", target := f"localhost:{free_port()}", *inputs)

    refused(done, 1, f"{target}: UNAVAILABLE: ")
    assert "Connection refused" in done.stderr
    assert time.monotonic() - started < 15


def test_check_of_a_dead_server_does_not_wait() -> None:
    started = time.monotonic()

    done = cli("check", f"localhost:{free_port()}")

    refused(done, 1, "FAIL  the runtime can be reached: no connection to localhost:")
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("command", ["predict", "check"])
@pytest.mark.parametrize(
    "target", ["localhost", "http://localhost:9090", "localhost:", "localhost:99999", "::1:9090", ":9090", ""]
)
def test_an_address_that_is_none_is_refused(command: str, target: str) -> None:
    refused(here(command, target), 2, f"expected HOST:PORT, such as localhost:9090 or [::1]:9090, got {target!r}")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e400", "86401"])
def test_a_timeout_that_makes_no_sense_is_refused(seconds: str) -> None:
    refused(
        here("predict", "localhost:9090", f"--timeout={seconds}"), 2, "expected seconds, more than 0 and at most 86400"
    )


def test_a_client_certificate_without_its_key_or_without_tls_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("")

    refused(here("predict", "localhost:1", "--tls-cert", tmp_path / "a.pem"), 2, "--tls-cert and --tls-key go together")
    both = ["--tls-cert", tmp_path / "a.pem", "--tls-key", tmp_path / "a.pem"]
    refused(here("predict", "localhost:1", *both), 2, "--tls-cert: expected --tls-ca too")


# Inputs ---------------------------------------------------------------------------------------------------------------

ONE = {"inputs": {"x": {"shape": [-1], "type": "double"}}, "outputs": {"y": {"shape": [-1], "type": "double"}}}


@pytest.fixture(scope="module")
def contract_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_directory(tmp_path_factory.mktemp("model"), promise={"name": "echo", **ONE}) / "contract.protobin"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x=1e400", "expected a number that double can hold, got 1e400"),
        ("x=[1, -1e999]", "expected a number that double can hold, got -1e999"),
        ("x=" + 5000 * "1", "expected an integer of at most 64 bits, got 5000 digits"),
        ("x=" + 20000 * "[", "expected JSON: nested too deeply"),
        ("x=[1, [2]]", "inputs.x: "),
        ("x=null", "inputs.x: expected a value, got None"),
        ('{"x": [1], "x": [2]}', "x: expected one value, got several"),
        ("[1, 2]", "expected NAME=VALUE or a JSON object of inputs"),
        ("x=3 apples", "inputs.x: expected double"),
        ("x=@/", "/: Is a directory"),
        ("x=@/dev/zero", "expected at most 512 MiB, got more"),
        ("x=@bad.json", "bad.json: expected UTF-8"),
        ("x=@bad.npy", "bad.npy: expected a numpy array"),
        ("x=@empty.npy", "empty.npy: expected a numpy array"),
        ("x=@cut.npy", "cut.npy: expected a numpy array"),
        ("x=@huge.npy", "huge.npy: expected a numpy array"),
        ("@bad.json", "bad.json: expected UTF-8"),
    ],
    ids=lambda text: text[:24],
)
def test_an_input_that_cannot_be_sent_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contract_file: Path, text: str, problem: str
) -> None:
    head = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (%s,), }"
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe[1]")
    (tmp_path / "bad.npy").write_bytes(b"not an array at all")
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "cut.npy").write_bytes((head % b"3").ljust(127) + b"\n" + bytes(8))
    (tmp_path / "huge.npy").write_bytes((head % b"99999999999999").ljust(127) + b"\n" + bytes(8))

    monkeypatch.chdir(tmp_path)
    refused(here("predict", "localhost:1", text, "--contract", contract_file), 2, problem)


def test_an_input_given_twice_is_refused() -> None:
    refused(cli("predict", f"localhost:{free_port()}", "x=1", "x=2"), 1, "UNAVAILABLE")  # asked for its contract first


def test_an_input_given_twice_is_refused_where_the_contract_is_known(contract_file: Path) -> None:
    done = here("predict", "localhost:1", "x=1", "x=2", "--contract", contract_file)

    refused(done, 2, "x: expected one value, got several")


@pytest.mark.parametrize("content", [None, b"", b"\xff" * 50, "directory"])
def test_a_contract_that_is_none_is_named(tmp_path: Path, content: bytes | str | None) -> None:
    file = tmp_path / "contract.protobin"
    if content == "directory":
        file.mkdir()
    elif isinstance(content, bytes):
        file.write_bytes(content)

    for command in (["predict", "localhost:1", "--contract", tmp_path], ["inspect", tmp_path]):
        done = here(*command)
        assert done.returncode in (3, 2)
        refused(done, done.returncode, str(file))


# ModelRuntime files ---------------------------------------------------------------------------------------------------


def file_of(path: Path, **spec: Any) -> Path:
    model = {"inline": {"src/func_main.py": "def echo(x):\n    return {'y': x}\n"}}
    document = {
        "kind": "ModelRuntime",
        "metadata": {"name": "test"},
        "spec": {"contract": ECHO_CONTRACT, "model": model, **spec},
    }
    (path / "file.yaml").write_text(yaml.safe_dump(document))
    return path / "file.yaml"


def bomb() -> str:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{to}: &{to} [{', '.join(10 * [f'*{of}'])}]" for of, to in zip("abcdefgh", "bcdefghi", strict=True)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"kind: \xff\xfe", "expected YAML"),
        (bomb().encode(), "expected at most 1000000 YAML nodes with aliases resolved"),
        (b"kind: ModelRuntime\nspec: &a {contract: *a, model: *a}", "expected at most 1000000 YAML nodes"),
        (b"[" * 5000, "expected YAML"),
        (b"a: 2026-13-45", "expected YAML"),
        (b"? [1]\n: 2", "expected"),
        (b"{1: 2, kind: ModelRuntime}", "spec: expected a mapping, got nothing"),
        (b"!!python/object/apply:os.system ['true']", "expected YAML"),
        (b"- 1", "expected YAML objects, got list"),
        (b"\x00", "expected YAML"),
        (b"kind: ModelRuntime\nspec: []", "spec: expected a mapping, got []"),
    ],
    ids=lambda text: repr(text[:24]),
)
def test_yaml_that_describes_nothing_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "file.yaml").write_bytes(content)

    refused(here("build", tmp_path / "file.yaml", "-o", tmp_path / "out"), 3, problem)


def test_aliases_that_are_no_bomb_are_read(tmp_path: Path) -> None:
    text = yaml.safe_dump(
        {
            "kind": "ModelRuntime",
            "metadata": {"name": "n"},
            "spec": {"model": {"inline": {"src/func_main.py": "def f(x):\n    return x"}}},
        }
    )
    (tmp_path / "file.yaml").write_text(
        text + "  contract: {name: f, inputs: {x: &t {type: double}}, outputs: {x: *t}}\n"
    )

    assert here("build", tmp_path / "file.yaml", "-o", tmp_path / "out").returncode == 0


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"env": {"A": "1"}}, "spec.env: expected a list, got {'A': '1'}"),
        ({"env": ["A=1"]}, "spec.env[0]: expected a mapping, got 'A=1'"),
        ({"env": [{"name": "A", "value": 5}]}, "spec.env[0].value: expected text (numbers in quotes), got 5"),
        ({"env": [{"value": "5"}]}, "spec.env[0].name: expected the name of a variable, got None"),
        ({"port": "9090"}, "spec.port: expected a whole number from 1 to 65535, got '9090'"),
        ({"port": 99999}, "spec.port: expected a whole number from 1 to 65535, got 99999"),
        ({"port": True}, "spec.port: expected a whole number from 1 to 65535, got True"),
        ({"processes": 0}, "spec.processes: expected a whole number from 1 to 256, got 0"),
        ({"processes": "2"}, "spec.processes: expected another type, got '2'"),
        ({"batching": {"maxSize": 1.5}}, "spec.batching.maxSize: expected a whole number from 1 to 255, got 1.5"),
        ({"batching": {"maxSize": 0}}, "spec.batching.maxSize: expected a whole number from 1 to 255, got 0"),
        ({"batching": 5}, "spec.batching: expected a mapping, got 5"),
        ({"batchin": {}}, "spec.batchin: no such field, did you mean 'batching'?"),
        ({"warmup": {"enabled": "yes"}}, "spec.warmup.enabled: expected true or false, got 'yes'"),
        ({"warmup": {"outputs": {}}}, "spec.warmup.outputs: expected inputs too, got none"),
        ({"warmup": {"inputs": [1]}}, "spec.warmup.inputs: expected a mapping, got [1]"),
        ({"contract": {**ECHO_CONTRACT, "era": "v9"}}, "spec.contract.era: expected v0, v2, v3, got 'v9'"),
        ({"contract": {"protobin": 5}}, "spec.contract.protobin: expected base64"),
        ({"model": {"inline": {"src/func_main.py": 5}}}, "spec.model.inline.src/func_main.py: expected text, got 5"),
        ({"model": {"inline": {5: "x"}}}, "5: expected a relative path without '..'"),
        ({"model": {5: {}}}, "spec.model: no source is called 5"),
        ({"requirements": {"file": "r.txt", "more": 1}}, "spec.requirements: expected {file: …}, got file, more"),
    ],
    ids=lambda each: str(each)[:40],
)
def test_a_field_of_the_wrong_kind_is_named(tmp_path: Path, spec: dict[str, Any], problem: str) -> None:
    refused(here("build", file_of(tmp_path, **spec), "-o", tmp_path / "out"), 3, problem)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["a/b", 5, ""])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: Any) -> None:
    file = file_of(tmp_path)
    document = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**document, "metadata": {"name": name}}))

    refused(here("run", file, "--predict"), 3, f"metadata.name: expected a DNS label, got {name!r}")


# run honours the file ------------------------------------------------------------------------------------------------


def test_run_says_which_fields_need_a_cluster(tmp_path: Path) -> None:
    env = [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    file = file_of(tmp_path, env=env, replicas=3, resources={"limits": {"cpu": "1"}})

    done = cli("run", file, "--predict")

    assert done.returncode == 0, done.stderr
    ignored = "spec.replicas, spec.resources, spec.env KEY (its value is in the cluster; set KEY here yourself)"
    [line] = [line for line in done.stderr.splitlines() if "fields without effect" in line]
    assert sorted(line.partition('ignored="')[2].strip('"').split(", ")) == sorted(ignored.split(", "))


def test_run_warms_up_as_the_file_says(tmp_path: Path) -> None:
    code = "def echo(x):\n    if x[0] != 42: raise ValueError('only 42')\n    return {'y': x}\n"
    model = {"inline": {"src/func_main.py": code}}
    good = {"inputs": {"x": [42]}, "outputs": {"y": [42]}}

    made_up = cli("run", file_of(tmp_path, model=model), "--predict", "-i", "x=[42]")
    given = cli("run", file_of(tmp_path, model=model, warmup=good), "--predict", "-i", "x=[42]")
    none = cli("run", file_of(tmp_path, model=model, warmup={"enabled": False}), "--predict", "-i", "x=[42]")
    wrong = cli(
        "run", file_of(tmp_path, model=model, warmup={**good, "outputs": {"y": [41]}}), "--predict", "-i", "x=[42]"
    )

    assert [json.loads(done.stdout) for done in (given, none)] == [{"y": [42.0]}, {"y": [42.0]}]
    assert wrong.returncode == 4
    assert "golden request" in wrong.stderr or "warmup" in wrong.stderr.lower()
    assert made_up.returncode == 0  # that the model refuses made-up values is no fault of its own
    assert json.loads(made_up.stdout) == {"y": [42.0]}


def test_run_takes_processes_from_the_file_and_the_shell_goes_first(tmp_path: Path) -> None:
    file = file_of(tmp_path, processes=2)

    theirs = cli("run", file, "--predict").stderr
    ours = cli("run", file, "--predict", env={**os.environ, "MODEL_PROCESSES": "1"}).stderr

    assert [text.count("model process started") for text in (theirs, ours)] == [2, 1]


def test_fields_of_the_file_are_settings_and_its_env_goes_before_them(tmp_path: Path) -> None:
    asked = {"processes": 2, "batching": {"maxSize": 8}, "warmup": {"enabled": False}}

    plain = modelruntime.read(file_of(tmp_path, **asked)).environment
    given = modelruntime.read(file_of(tmp_path, **asked, env=[{"name": "WARMUP", "value": "true"}])).environment

    assert plain == {"MODEL_PROCESSES": "2", "BATCH_MAX_SIZE": "8", "WARMUP": "false"}
    assert given == {**plain, "WARMUP": "true"}


# Signals, pipes and the last net --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_model_is_built_leaves_nothing(tmp_path: Path, number: int, status: int) -> None:
    (tmp_path / "bin").mkdir()
    slow = tmp_path / "bin" / "uv"
    slow.write_text("#!/bin/sh\nsleep 60\n")
    slow.chmod(0o755)
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    command = [*COMMAND, "run", str(file_of(tmp_path, requirements=["six"])), "--predict"]

    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as running:
        end = time.monotonic() + 20
        while not list((tmp_path / "tmp").glob("*/files")) and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.5)
        os.killpg(running.pid, number)
        _, errors = running.communicate(timeout=20)

    assert running.returncode == status
    assert "Traceback" not in errors
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_signal_ends_a_waiting_prediction(tmp_path: Path, serve: Any) -> None:
    target = serve("import time\n\ndef echo(x):\n    time.sleep(5)\n    return {'y': x}\n").target

    with subprocess.Popen([*COMMAND, "predict", target, "x=[1]"], stderr=subprocess.PIPE, text=True) as waiting:
        time.sleep(2.5)
        waiting.send_signal(signal.SIGINT)
        _, errors = waiting.communicate(timeout=10)

    assert (waiting.returncode, errors.strip()) == (130, "interrupted")


@pytest.mark.parametrize("arguments", [["inspect", "DIR"], ["check", "DIR"]])
def test_a_reader_that_leaves_ends_the_command_quietly(tmp_path: Path, arguments: list[str]) -> None:
    model = model_directory(tmp_path)
    command = [*COMMAND, *(str(model) if each == "DIR" else each for each in arguments)]
    reading, writing = os.pipe()
    os.close(reading)

    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)

    assert (done.returncode, done.stderr) == (141, "")


def test_a_disk_that_is_full_is_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "inspect", str(model_directory(tmp_path))], stdout=full, stderr=subprocess.PIPE, text=True
        )

    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "model-runtime: unexpected OSError: [Errno 28] No space left on device"
    assert "Traceback" not in done.stderr


def test_a_directory_whose_code_ends_the_process_fails_the_check(tmp_path: Path) -> None:
    done = cli("check", model_directory(tmp_path, "import sys\n\ndef echo(x):\n    sys.exit(0)\n"))

    assert done.returncode == 1
    assert "FAIL" in done.stdout


def test_the_answer_is_json_whatever_the_terminal_can_show(serve: Any) -> None:
    promise = {"name": "f", "inputs": {}, "outputs": {"t": {"shape": "scalar", "type": "string"}}}
    target = serve("def f():\n    return {'t': 'é €'}\n", promise).target

    done = cli("predict", target, env={**os.environ, "PYTHONIOENCODING": "ascii"})

    assert json.loads(done.stdout) == {"t": "é €"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["-h"],
        ["--version"],
        *([each, "--help"] for each in ("serve", "run", "build", "install", "inspect", "predict", "check")),
        ["fetch", "--help"],
    ],
)
def test_help_and_version_end_with_0(arguments: list[str]) -> None:
    done = here(*arguments)

    assert (done.returncode, done.stderr) == (0, "")
    assert "model-runtime" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["predict"], ["--nothing"], ["run", "gone.yaml"], ["build", str(SAMPLE)]]
)
def test_a_wrong_use_ends_with_2(arguments: list[str]) -> None:
    refused(here(*arguments), 2, "Usage: model-runtime")
