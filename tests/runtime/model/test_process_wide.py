"""The model's process is the model's: nothing of Python that belongs to a whole process is ours there."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from environments import environment
from serving import Program, model_directory

from model_runtime import tensors

ANSWER = {"name": "look", "inputs": {}, "outputs": {"y": {"shape": "scalar", "type": "string"}}}
# One model that uses every facility of Python that belongs to a whole process, at import and in its function.
MODEL = """
import argparse, asyncio, atexit, faulthandler, gc, json, locale, logging, logging.config, multiprocessing, os, signal
import subprocess, sys, threading, time, warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

SEEN = {}
# Before this model touches anything: what it finds is what Python gives every program.
SEEN["argv"] = [Path(argument).name for argument in sys.argv]
SEEN["orig_argv"] = [Path(argument).name for argument in getattr(sys, "orig_argv", ["python", "func_main.py"])][1:]
SEEN["main"] = sorted(name for name in vars(sys.modules["__main__"]) if not name.startswith("__"))
SEEN["loggers"] = sorted(name for name in logging.root.manager.loggerDict if name.startswith("model_runtime"))
SEEN["root handlers"] = len(logging.root.handlers)
SEEN["hooks"] = [sys.excepthook is sys.__excepthook__,
                 getattr(threading, "__excepthook__", threading.excepthook) is threading.excepthook,
                 sys.displayhook is sys.__displayhook__, sys.gettrace() is None, sys.getprofile() is None]
SEEN["streams"] = [sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__]
SEEN["stdin"] = sys.stdin.read()
SEEN["signals"] = sorted(
    number.name for number in signal.Signals
    if signal.getsignal(number) not in (signal.SIG_DFL, None)
    and number not in (signal.SIGINT, signal.SIGPIPE, getattr(signal, "SIGXFSZ", 0)))
SEEN["interrupt"] = signal.getsignal(signal.SIGINT) is signal.default_int_handler
SEEN["wakeup"] = signal.set_wakeup_fd(-1)
SEEN["mask"] = len(signal.pthread_sigmask(signal.SIG_BLOCK, []))
SEEN["alarm"] = signal.alarm(0)
SEEN["recursion"] = sys.getrecursionlimit()
SEEN["switch"] = sys.getswitchinterval()
SEEN["gc"] = [gc.isenabled(), gc.get_debug(), len(gc.callbacks), gc.get_freeze_count()]
SEEN["faulthandler"] = faulthandler.is_enabled()
SEEN["start method"] = multiprocessing.get_start_method(allow_none=True)
SEEN["policy"] = type(asyncio.get_event_loop_policy()).__name__.lstrip("_")
SEEN["locale"] = locale.setlocale(locale.LC_NUMERIC)
SEEN["warnings"] = [entry[0] for entry in warnings.filters if "model_runtime" in str(entry)]
SEEN["umask"] = os.umask(0o022); os.umask(SEEN["umask"])
SEEN["cwd"] = os.getcwd()
SEEN["nice"] = os.nice(0)
SEEN["threads"] = threading.active_count()
SEEN["main thread"] = threading.current_thread() is threading.main_thread()
SEEN["session"] = os.getsid(0) == os.getpid() == os.getpgrp()
SEEN["environment"] = sorted(name for name in os.environ if name in json.loads(os.environ["ASKED"]))
SEEN["mine"] = os.environ.get("MINE")
SEEN["tracing"] = __import__("tracemalloc").is_tracing()

# What programs do at import; each would break a host that uses the same.
argparse.ArgumentParser().parse_args()
logging.config.dictConfig({"version": 1, "disable_existing_loggers": True, "root": {"level": "CRITICAL", "handlers": []}})
logging.basicConfig(force=True, level=logging.CRITICAL) if sys.version_info >= (3, 8) else None
logging.disable(logging.CRITICAL)
logging.setLogRecordFactory(lambda *a, **k: 1 / 0)
logging.setLoggerClass(type("Mine", (logging.Logger,), {"makeRecord": None}))
sys.excepthook = threading.excepthook = lambda *a: None
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGUSR1, lambda *a: None)
os.umask(0o077)
gc.disable()
gc.freeze()
sys.setrecursionlimit(400)
sys.setswitchinterval(0.001)
warnings.simplefilter("error")
asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy()) if sys.version_info < (3, 14) else None
multiprocessing.set_start_method("spawn", force=True)
threading.stack_size(1 << 20)
faulthandler.enable()
atexit.register(lambda: Path(os.environ["MARK"]).write_text("atexit ran"))
os.environ["LANG"] = "C"
os.environ.pop("PATH_INFO", None)
import __main__
__main__.mine = 1
sys.stderr = sys.stdout = open(os.devnull, "w")
sys.argv[0] = "mine.py"
import builtins
builtins.mine = 1


def twice(number):
    return 2 * number


def look():
    child = "import from_lib, from_src, os, sys; print(from_lib.HERE, from_src.HERE, len(sys.argv), os.getcwd())"
    SEEN["child"] = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout.split()
    with ProcessPoolExecutor(1) as pool:
        SEEN["spawned"] = pool.submit(twice, 21).result()
    SEEN["after"] = [sys.getrecursionlimit(), gc.isenabled(), os.umask(0o077) == 0o077,
                     signal.getsignal(signal.SIGTERM) == signal.SIG_IGN,
                     warnings.filters[0][0], multiprocessing.get_start_method(), sys.argv, faulthandler.is_enabled()]
    return {"y": json.dumps(SEEN)}
"""
FILES = {"src/from_src.py": "HERE = 'src'\n"}
SECRETS = {
    "TLS_KEY_FILE": "", "TERMINATION_LOG": "/dev/null", "OTEL_EXPORTER_OTLP_HEADERS": "authorization=secret",
    "PIP_INDEX_URL": "https://user:secret@index.example/simple", "APP_PORT": "", "MAX_QUEUE": "77",
}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    model = model_directory(tmp_path / "model", MODEL, ANSWER, files=FILES)
    (model / "lib").mkdir()
    (model / "lib" / "from_lib.py").write_text("HERE = 'lib'\n")
    return model


@pytest.mark.parametrize("python", [None, "3.8"])
def test_a_model_finds_nothing_of_ours_in_its_process_and_keeps_what_it_sets(
    model: Path, tmp_path: Path, python: str | None
) -> None:
    given = {name: value for name, value in SECRETS.items() if value}
    given |= {"ASKED": json.dumps([*SECRETS, "MODEL_DIR"]), "MINE": "as set", "MARK": str(tmp_path / "mark")}
    if python:
        given["MODEL_PYTHON"] = str(environment(python, "numpy==1.19.5"))
    with Program(model, **given) as program:
        program.wait_serving()
        with program.client() as client:
            seen = json.loads(str(client.predict({})["y"]))
        program.terminate()
        status, _ = program.end()

    child, spawned, after = seen.pop("child"), seen.pop("spawned"), seen.pop("after")
    assert seen.pop("recursion") == 1000
    assert seen.pop("switch") == pytest.approx(0.005)
    assert seen.pop("policy") == "UnixDefaultEventLoopPolicy"
    assert seen == {
        "argv": ["func_main.py"],
        "orig_argv": ["func_main.py"],
        "main": [],
        "loggers": [],
        "root handlers": 0,
        "hooks": [True] * 5,
        "streams": [True] * 3,
        "stdin": "",
        "signals": [],
        "interrupt": True,
        "wakeup": -1,
        "mask": 0,
        "alarm": 0,
        "gc": [True, 0, 0, 0],
        "faulthandler": False,
        "start method": None,
        "locale": "C",
        "warnings": [],
        "umask": _umask(),
        "cwd": str(model / "files"),
        "nice": os.nice(0),
        "threads": 1,
        "main thread": True,
        "session": True,
        "environment": ["MODEL_DIR"],
        "mine": "as set",
        "tracing": False,
    }
    assert child == ["lib", "src", "1", str(model / "files")]
    assert spawned == 42
    assert after == [400, False, True, True, "error", "spawn", ["mine.py"], True]
    assert (tmp_path / "mark").read_text() == "atexit ran"
    assert status == 0


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# Import order ---------------------------------------------------------------------------------------------------------

ROWS = {"x": {"shape": [-1], "type": "double"}}
CASES = {
    "a dict": "def f(x):\n    return {'y': x}\n",
    "coroutines": "async def f(x):\n    return {'y': x}\n",
    "an error": "def f(x):\n    if len(x) > 1:\n        raise ValueError('no')\n    return {'y': x}\n",
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("python", [None, "3.8"])
def test_a_models_files_hide_no_module_from_us(tmp_path: Path, case: str, python: str | None) -> None:
    """Each module of the standard library has a namesake among the model's sources that cannot be imported."""
    code = f"import os\n\n{CASES[case]}"
    shadows = {
        f"src/{name}.py": f"raise RuntimeError('the model hid {name}')\n"
        for name in sys.stdlib_module_names
        if name not in ("os", "antigravity", "this", "__main__")
    }
    model = model_directory(tmp_path, code, {"name": "f", "inputs": ROWS, "outputs": {"y": ROWS["x"]}}, files=shadows)
    settings = {"BATCH_MAX_SIZE": "8", "MODEL_THREADS": "2"}
    if python:
        settings["MODEL_PYTHON"] = str(environment(python, "numpy==1.19.5"))
    with Program(model, **settings) as program:
        program.wait_serving()
        with program.client() as client:
            if case == "an error":
                with pytest.raises(grpc.RpcError, match="ValueError: no"):
                    client.predict({"x": tensors.tensor(np.array([1.0, 2.0]))})
            else:
                assert client.predict({"x": tensors.tensor(np.array([1.0, 2.0]))})["y"].tolist() == [1, 2]
        program.terminate()
        status, errors = program.end()

    assert "the model hid" not in errors
    assert status == 0


# Errors ---------------------------------------------------------------------------------------------------------------

SILENCES = """
import logging, logging.config, os, sys
logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})
logging.disable(logging.CRITICAL)
sys.stderr = sys.stdout = open(os.devnull, "w")
for descriptor in (1, 2):
    os.dup2(sys.stdout.fileno(), descriptor)

def look():
    if "serving" in globals():
        raise KeyError("the key is 1234")
    globals()["serving"] = True
    return {"y": ""}
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_is_in_our_log_whatever_the_model_does_to_logging(tmp_path: Path, form: str) -> None:
    with Program(model_directory(tmp_path, SILENCES, ANSWER), LOG_FORMAT=form, MODEL_ERROR_DETAILS="false") as program:
        program.wait_serving()
        with program.client() as client, pytest.raises(grpc.RpcError) as failure:
            client.predict({})
        program.terminate()
        _, errors = program.end()

    assert failure.value.details() == "the model's function 'look' failed: see the runtime's log"
    if form == "text":
        assert "Traceback (most recent call last):\n" in errors
        assert "\nKeyError: 'the key is 1234'\n" in errors
    else:
        [line] = [
            line
            for line in map(json.loads, re.findall(r"^{.*$", errors, re.MULTILINE))
            if line["message"] == "the model failed"
        ]
        assert line["level"] == "error"
        assert line["signature"] == "look"
        assert line["exception"].endswith("KeyError: 'the key is 1234'")
        assert isinstance(line["pid"], int)


SECRET = "the password is 1234"
REVEALING = {
    "at import": f"raise RuntimeError({SECRET!r})\n",
    "at import, with a class of its own": f"class Mine(BaseException): pass\nraise Mine({SECRET!r})\n",
    "at import, by exit": f"import sys\nsys.exit({SECRET!r})\n",
    "at warm-up": f"def look():\n    raise RuntimeError({SECRET!r})\n",
    "to stderr": f"import os, sys\nprint({SECRET!r}, file=sys.stderr, flush=True)\nos._exit(3)\n",
}


@pytest.mark.parametrize("isolation", ["process", "none"])
@pytest.mark.parametrize("case", REVEALING)
def test_without_error_details_operators_see_why_a_model_cannot_serve_and_clients_do_not(
    tmp_path: Path, case: str, isolation: str
) -> None:
    if case == "to stderr" and isolation == "none":
        pytest.skip("it would end the server")
    termination_log = tmp_path / "termination-log"
    termination_log.touch()
    model = model_directory(tmp_path / "model", REVEALING[case], ANSWER)
    with Program(
        model,
        MODEL_ERROR_DETAILS="false",
        MODEL_ISOLATION=isolation,
        LOAD_FAILURE_SECONDS="3",
        TERMINATION_LOG=str(termination_log),
    ) as program:
        heard = []
        with program.client() as client:
            while program.process.poll() is None:
                for ask in (
                    lambda: client.call("/tensorflow.serving.PredictionService/Status"),
                    lambda: client.predict({}),
                ):
                    try:
                        heard.append(str(ask()))
                    except grpc.RpcError as error:
                        heard.append(str(error.details()))
        _, errors = program.end(60)

    assert [text for text in heard if "1234" in text] == []
    assert any("see the runtime's log" in text for text in heard)
    assert SECRET in errors
    if case != "at warm-up" or isolation == "process":
        assert ("1234" in termination_log.read_text()) == (case != "at warm-up")


@pytest.mark.parametrize("details", [True, False])
def test_the_last_words_of_a_process_reach_clients_only_with_error_details(tmp_path: Path, details: bool) -> None:
    code = f"import os, sys\n\ndef look():\n    print({SECRET!r}, file=sys.stderr, flush=True)\n    os._exit(9)\n"
    model = model_directory(tmp_path, code, ANSWER)
    with Program(model, WARMUP="false", MODEL_ERROR_DETAILS=str(details).lower()) as program:
        program.wait_serving()
        heard: list[Any] = []
        with program.client() as client:
            for _ in range(3):
                with pytest.raises(grpc.RpcError) as failure:
                    client.predict({})
                heard.append(failure.value.details())
                heard.append(str(client.call("/tensorflow.serving.PredictionService/Status")))
        program.terminate()
        _, errors = program.end()

    assert heard[0].startswith("the model process ended with exit status 9 while it was answering")
    assert any("1234" in text for text in heard) == details
    assert SECRET in errors
