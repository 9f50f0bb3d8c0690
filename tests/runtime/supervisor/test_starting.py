"""From the start of a model process to SERVING: warm-up, crash loops, other environments; and that none outlives us."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from environments import environment
from serving import ECHO_CONTRACT, Program, model_directory

from model_runtime import RuntimeManager, RuntimeService, tensors
from model_runtime.client import Client
from model_runtime.errors import InvalidSetting
from model_runtime.settings import Settings

X = {"x": tensors.tensor(np.array([1.0, 2.0]))}


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found |= {child} | descendants(child)
    return found


# Ends ---------------------------------------------------------------------------------------------------------------


def test_no_process_outlives_a_server_that_is_killed(tmp_path: Path) -> None:
    code = """
    import ctypes, subprocess
    CHILD = subprocess.Popen(["sleep", "3600"])

    def echo(x):
        ctypes.PyDLL(None).sleep(3600)  # holds the interpreter's lock: no Python code can run here any more
    """
    with Program(model_directory(tmp_path, code), WARMUP="false", BATCH_MAX_SIZE="1", MODEL_PROCESSES="2") as program:
        program.wait_serving()
        with program.client() as client:
            client.channel.unary_unary("/tensorflow.serving.PredictionService/Predict").future(
                tensors.encode_request(tensors.ERAS["v2"], tensors.Request(X))
            )
            time.sleep(0.3)
            family = descendants(program.process.pid)
            assert len(family) == 6  # two models, their children, their guardians
            os.kill(program.process.pid, signal.SIGKILL)
        end = time.monotonic() + 5
        while any(map(is_running, family)) and time.monotonic() < end:
            time.sleep(0.05)

    assert [pid for pid in family if is_running(pid)] == []


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_model_that_dies_before_it_serves_ends_the_program_after_a_few_tries(tmp_path: Path) -> None:
    termination_log = tmp_path / "termination-log"
    termination_log.touch()
    code = "import os, sys\nprint('no licence found', file=sys.stderr, flush=True)\nos._exit(5)\n"
    started = time.monotonic()
    with Program(model_directory(tmp_path / "model", code), TERMINATION_LOG=str(termination_log)) as program:
        status, _ = program.end(60)

    assert status == 7
    assert time.monotonic() - started < 30
    assert termination_log.read_text() == (
        "ModelCrashed: the model process ended with exit status 5; last words: no licence found; "
        "5 starts in a row came to nothing"
    )


def test_an_import_that_never_ends_is_ended(tmp_path: Path) -> None:
    model = model_directory(tmp_path, "import time\ntime.sleep(3600)\n")
    with RuntimeManager(model, 0, settings=Settings(model_load_timeout=1.0)) as runtime:
        end = time.monotonic() + 10
        while "MODEL_LOAD_TIMEOUT" not in runtime.state.message and time.monotonic() < end:
            time.sleep(0.1)
        message = runtime.state.message

    assert message.startswith("the model process did not load within 1 s (MODEL_LOAD_TIMEOUT)")


# Warm-up ------------------------------------------------------------------------------------------------------------


def loaded(folder: Path, code: str, promise: Any = ECHO_CONTRACT, **settings: Any) -> str:
    with RuntimeManager(model_directory(folder, code, promise), 0, settings=Settings(**settings)) as runtime:
        return runtime.wait_loaded(20).message


def test_a_model_that_cannot_answer_a_made_up_request_does_not_serve(tmp_path: Path) -> None:
    code = "def echo(x):\n    return {'y': open('no such file')}\n"

    assert "the model cannot answer its warm-up request" in loaded(tmp_path / "a", code)
    assert "No such file or directory: 'no such file' (files/src/func_main.py, line 2, in echo)" in loaded(
        tmp_path / "b", code
    )
    assert loaded(tmp_path / "c", code, warmup=False) == "ok"


@pytest.mark.parametrize(
    "error",
    [
        "ValueError('unknown category')",
        "KeyError('1')",
        "AssertionError",
        "ZeroDivisionError",
        "RuntimeError('kernel size')",
        "type('Unknown', (Exception,), {})('1')",
    ],
)
def test_a_model_that_refuses_made_up_values_serves_and_the_log_says_so(
    tmp_path: Path, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    code = f"def echo(x):\n    if (x == 1).all():\n        raise {error}\n    return {{'y': x}}\n"

    with caplog.at_level("WARNING"):
        assert loaded(tmp_path, code) == "ok"

    [record] = [each for each in caplog.records if "made-up warm-up request" in each.getMessage()]
    assert "warmup.inputs of the ModelRuntime, or warmup.json" in str(vars(record))


@pytest.mark.parametrize(
    "error",
    ["TypeError", "AttributeError", "NameError", "ImportError", "NotImplementedError", "MemoryError", "SystemExit"],
)
def test_a_fault_that_no_value_explains_fails_a_made_up_warm_up(tmp_path: Path, error: str) -> None:
    message = loaded(tmp_path, f"def echo(x):\n    raise {error}('broken')\n")

    assert "the model cannot answer its warm-up request" in message
    assert "warmup.inputs of the ModelRuntime, or warmup.json" in message


def test_without_inputs_nothing_is_made_up_and_whatever_is_raised_fails_the_warm_up(tmp_path: Path) -> None:
    code = "def echo():\n    raise ValueError('broken')\n"

    assert "the model cannot answer its warm-up request" in loaded(tmp_path, code, {**ECHO_CONTRACT, "inputs": {}})


def test_an_output_that_cannot_be_read_fails_the_warm_up_and_is_named(tmp_path: Path) -> None:
    code = """
    class Panic(BaseException): pass
    class X:
        def __array__(self, *_, **__): raise Panic("requires grad")
    def echo(x):
        return {"y": X()}
    """
    with RuntimeManager(model_directory(tmp_path, code), 0, settings=Settings()) as runtime:
        message = runtime.wait_loaded(20).message

    assert "outputs.y: expected double[*], got X that cannot be read: Panic: requires grad" in message


@pytest.mark.parametrize(
    ("golden", "message"),
    [
        ([{"inputs": {"x": [1, 2]}}], "ok"),
        ({"inputs": {"x": [1, 2]}, "outputs": {"y": [2, 4]}}, "ok"),
        (
            [{"inputs": {"x": [1, 2]}, "outputs": {"y": [2, 5]}}],
            "answers its golden request otherwise than was stored: y",
        ),
        (
            [{"inputs": {"x": [1]}}],
            "warmup.json, warmup.inputs of the ModelRuntime): the model's function 'echo' failed",
        ),
        ([{"inputs": {"z": [1, 2]}}], "inputs.x: expected double[*], got only z"),
        ([{"outputs": {}}], 'expected objects with "inputs"'),
    ],
)
def test_golden_requests_beside_the_model_are_asked_instead(tmp_path: Path, golden: Any, message: str) -> None:
    code = "def echo(x):\n    assert len(x) == 2\n    return {'y': x * 2}\n"
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "warmup.json").write_text(json.dumps(golden))

    assert message in loaded(tmp_path, code, batch_max_size=1)


# Environments -------------------------------------------------------------------------------------------------------

VERSIONS = """
import sys, numpy

def versions():
    try:
        import google.protobuf
        protobuf = google.protobuf.__version__
    except ImportError:
        protobuf = "none"
    return {"y": [f"{sys.version_info[0]}.{sys.version_info[1]}", numpy.__version__, protobuf]}
"""
ASKED = {"name": "versions", "inputs": {}, "outputs": {"y": {"shape": [-1], "type": "string"}}}


@pytest.mark.parametrize(
    ("python", "requirements", "expected"),
    [
        ("3.11", ["numpy==1.23.5"], ["3.11", "1.23.5", "none"]),
        ("3.8", ["numpy==1.19.5", "protobuf==3.20.3"], ["3.8", "1.19.5", "3.20.3"]),
        ("3.13", ["numpy"], ["3.13", None, "none"]),
    ],
)
def test_a_model_runs_on_its_own_python_with_its_own_libraries(
    tmp_path: Path, python: str, requirements: list[str], expected: list[str | None]
) -> None:
    settings = Settings(model_python=environment(python, *requirements))
    with RuntimeManager(model_directory(tmp_path, VERSIONS, ASKED), 0, settings=settings) as runtime:
        assert runtime.wait_loaded(30).message == "ok"
        with Client(f"localhost:{runtime.port}") as client:
            answer = client.predict({})["y"].tolist()

    assert [got for got, wanted in zip(answer, expected, strict=True) if wanted not in (None, got)] == []
    assert np.__version__.startswith("2.") or np.__version__ != answer[1]


def test_libraries_in_the_models_lib_hide_the_runtimes_own(tmp_path: Path) -> None:
    model = model_directory(
        tmp_path, "import numpy, yaml\n\ndef versions():\n    return {'y': [yaml.__file__]}\n", ASKED
    )
    (model / "lib" / "yaml").mkdir(parents=True)
    (model / "lib" / "yaml" / "__init__.py").write_text("")
    with RuntimeManager(model, 0) as runtime:
        runtime.wait_loaded(20)
        with Client(f"localhost:{runtime.port}") as client:
            assert client.predict({})["y"].tolist() == [str(model / "lib" / "yaml" / "__init__.py")]


def test_numpy_in_the_models_lib_hides_that_of_its_python(tmp_path: Path) -> None:
    model = model_directory(tmp_path, VERSIONS, ASKED)
    (model / "lib").symlink_to(
        environment("3.11", "numpy==1.23.5").parent.parent / "lib" / "python3.11" / "site-packages"
    )
    with RuntimeManager(model, 0, settings=Settings(model_python=environment("3.11", "numpy==1.26.4"))) as runtime:
        assert runtime.wait_loaded(20).message == "ok"
        with Client(f"localhost:{runtime.port}") as client:
            assert client.predict({})["y"].tolist()[1] == "1.23.5"


def test_a_numpy_that_cannot_be_imported_is_told_in_one_line(tmp_path: Path) -> None:
    model = model_directory(tmp_path)
    (model / "lib" / "numpy").mkdir(parents=True)
    (model / "lib" / "numpy" / "__init__.py").write_text("import numpy.core")
    with RuntimeManager(model, 0) as runtime:
        message = runtime.wait_loaded(20).message

    assert message == (
        "numpy of the model's environment cannot be imported: ModuleNotFoundError: No module named 'numpy.core'"
    )


def test_a_virtual_environment_in_the_model_directory_is_found(tmp_path: Path) -> None:
    model = model_directory(tmp_path, VERSIONS, ASKED)
    (model / "venv").symlink_to(environment("3.11", "numpy==1.23.5").parent.parent)
    with RuntimeManager(model, 0) as runtime:
        runtime.wait_loaded(20)
        with Client(f"localhost:{runtime.port}") as client:
            assert client.predict({})["y"].tolist()[1] == "1.23.5"


def test_an_environment_without_numpy_is_told_in_one_line(tmp_path: Path) -> None:
    with RuntimeManager(model_directory(tmp_path), 0, settings=Settings(model_python=environment("3.11"))) as runtime:
        message = runtime.wait_loaded(20).message

    assert message == "the model's environment has no numpy: add it to the requirements"


def test_a_python_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    (tmp_path / "python").write_text("not a program")
    with RuntimeManager(
        model_directory(tmp_path / "m"), 0, settings=Settings(model_python=tmp_path / "python")
    ) as runtime:
        message = runtime.wait_loaded(20).message

    assert message == f"MODEL_PYTHON: {tmp_path / 'python'} cannot be started: Permission denied"


# Custom runtimes, processes -----------------------------------------------------------------------------------------


def test_a_class_that_no_other_process_could_import_is_refused(tmp_path: Path) -> None:
    class Local(RuntimeService):
        pass

    with pytest.raises(InvalidSetting, match="expected a class that can be imported"):
        RuntimeManager(model_directory(tmp_path), 0, service=Local).start()


def test_calls_go_to_the_process_that_is_least_busy(tmp_path: Path) -> None:
    code = "import os, time\n\ndef who(wait):\n    time.sleep(float(wait))\n    return {'pid': os.getpid()}\n"
    promise = {
        "name": "who",
        "inputs": {"wait": {"shape": "scalar", "type": "double"}},
        "outputs": {"pid": {"shape": "scalar", "type": "int64"}},
    }
    settings = Settings(model_processes=3, warmup=False)
    with RuntimeManager(model_directory(tmp_path, code, promise), 0, settings=settings) as runtime:
        runtime.wait_loaded(20)
        time.sleep(1)
        with Client(f"localhost:{runtime.port}") as client:
            path = "/tensorflow.serving.PredictionService/Predict"
            request = tensors.encode_request(tensors.ERAS["v2"], tensors.Request({"wait": tensors.tensor(0.5)}))
            started = time.monotonic()
            calls = [client.channel.unary_unary(path).future(request, timeout=10) for _ in range(3)]
            pids = {
                int(tensors.array(tensors.decode_response(tensors.ERAS["v2"], call.result())["pid"])) for call in calls
            }
            seconds = time.monotonic() - started

    assert len(pids) == 3
    assert seconds < 1.5  # one after the other


def test_a_call_that_its_caller_has_cancelled_never_reaches_the_model(tmp_path: Path) -> None:
    code = """
    import time
    CALLS = []

    def echo(x):
        CALLS.append(float(x[0]))
        time.sleep(0.3)
        return {"y": CALLS}
    """
    settings = Settings(warmup=False, batch_max_size=1)
    with RuntimeManager(model_directory(tmp_path, code), 0, settings=settings) as runtime:
        runtime.wait_loaded(20)
        with Client(f"localhost:{runtime.port}") as client:
            predict = client.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")

            def ask(value: float) -> Any:
                inputs = {"x": tensors.tensor(np.array([value]))}
                return predict.future(tensors.encode_request(tensors.ERAS["v2"], tensors.Request(inputs)), timeout=10)

            first = ask(1.0)
            time.sleep(0.1)
            given_up = ask(2.0)
            time.sleep(0.05)
            given_up.cancel()
            last = tensors.decode_response(tensors.ERAS["v2"], ask(3.0).result())
            first.result()

    assert tensors.array(last["y"]).tolist() == [1.0, 3.0]


def test_model_output_is_logged_line_by_line(tmp_path: Path) -> None:
    code = "import sys\nprint('loading weights')\nprint('deprecated!', file=sys.stderr)\n\ndef echo(x):\n    return {'y': x}\n"
    with Program(model_directory(tmp_path, code), LOG_FORMAT="json") as program:
        program.wait_serving()
        program.terminate()
        _, errors = program.end()

    lines = [json.loads(line) for line in errors.splitlines()]
    said = {(line["message"], line["stream"]) for line in lines if "stream" in line}
    assert {("loading weights", "stdout"), ("deprecated!", "stderr")} <= said


def test_while_the_model_is_started_again_the_manager_is_told_to_wait(tmp_path: Path) -> None:
    code = "import os, time\ntime.sleep(1)\n\ndef echo(x):\n    os._exit(1)\n"
    settings = Settings(warmup=False, batch_max_size=1)
    with RuntimeManager(model_directory(tmp_path, code), 0, settings=settings) as runtime:
        runtime.wait_loaded(20)
        with Client(f"localhost:{runtime.port}") as client:
            with pytest.raises(grpc.RpcError):
                client.predict(X)
            status = client.call("/tensorflow.serving.PredictionService/Status")

    assert status[:1] == b"\x12"  # UNKNOWN, with a message
    assert b"ended with exit status 1; it is being started again" in status
