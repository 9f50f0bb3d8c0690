"""Whatever user code raises, wherever: the process ends only when it truly ended, and each call hears a documented status."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from serving import model_directory

from model_runtime import RuntimeManager, tensors
from model_runtime.client import Client
from model_runtime.settings import Settings

# A Rust panic reaches Python as pyo3's PanicException, which is a BaseException.
ERRORS = {
    "panic": "type('PanicException', (BaseException,), {})('called unwrap on None')",
    "exit": "SystemExit(3)",
    "interrupt": "KeyboardInterrupt()",
    "generator": "GeneratorExit()",
    "recursion": "RecursionError('too deep')",
    "memory": "MemoryError()",
    "system": "SystemError('null result')",
    "broken channel": "BrokenPipeError(32, 'Broken pipe')",
    "end of file": "EOFError()",
    "stop": "StopIteration()",
    "cancelled": "__import__('asyncio').CancelledError()",
    "nameless": "type('', (Exception,), {})()",
    "unprintable": "type('Bad', (Exception,), {'__str__': lambda self: 1 / 0, '__repr__': lambda self: 1 / 0})()",
    "enormous": "ValueError('x' * 5_000_000)",
    "surrogates": "ValueError('\\ud800 and \\x00 and \\n')",
}
ACT = {"name": "act", "inputs": {"what": {"shape": "scalar", "type": "string"}}, "outputs": {"y": {"type": "int64"}}}
CODE = f"""
import asyncio, os
ERRORS = {json.dumps(ERRORS)}

def act(what):
    if what:
        raise eval(ERRORS[str(what)])
    return {{"y": os.getpid()}}
"""
ASYNC = CODE.replace("def act", "async def act")


def ask(client: Client, what: str) -> int:
    return int(client.predict({"what": tensors.tensor(what)})["y"])


@pytest.fixture(scope="module", params=["plain", "threads", "coroutines"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    code = ASYNC if request.param == "coroutines" else CODE
    threads = 4 if request.param == "threads" else 1
    chosen = Settings(warmup=False, model_threads=threads)
    directory = model_directory(tmp_path_factory.mktemp("raised") / "model", code, ACT)
    with RuntimeManager(directory, 0, settings=chosen) as runtime:
        runtime.wait_loaded(20)
        with Client(f"localhost:{runtime.port}", timeout=10) as made:
            yield made


@pytest.mark.parametrize("what", ERRORS)
def test_the_call_fails_and_the_process_goes_on(client: Client, what: str) -> None:
    before = ask(client, "")
    with pytest.raises(grpc.RpcError) as failure:
        ask(client, what)

    assert failure.value.code() is grpc.StatusCode.INTERNAL
    assert "the model's function 'act' failed" in (failure.value.details() or "")
    assert ask(client, "") == before


@pytest.mark.parametrize("where", ["at import", "at warm-up"])
@pytest.mark.parametrize("what", ERRORS)
def test_a_model_that_raises_before_it_serves_is_told_apart_from_one_that_crashes(
    tmp_path: Path, what: str, where: str
) -> None:
    code = f"raise {ERRORS[what]}\n" if where == "at import" else f"def act(what):\n    raise {ERRORS[what]}\n"
    directory = model_directory(tmp_path, code, ACT, files={"warmup.json": '{"inputs": {"what": ""}}'})
    with RuntimeManager(directory, 0) as runtime:
        state = runtime.wait_loaded(20)

    expected = "ModelImportFailed" if where == "at import" else "WarmupFailed"
    assert type(state.error).__name__ == expected
    assert len(state.message) < 5000


def test_a_task_of_the_models_loop_that_exits_does_not_end_the_loop(tmp_path: Path) -> None:
    code = """
    import asyncio, os, sys

    async def leave():
        sys.exit(3)

    async def act(what):
        if what == "task":
            asyncio.get_running_loop().create_task(leave())
            await asyncio.sleep(0.05)
        elif what == "stop":
            asyncio.get_running_loop().stop()
            await asyncio.sleep(0.05)
        return {"y": os.getpid()}
    """
    with RuntimeManager(model_directory(tmp_path, code, ACT), 0, settings=Settings(warmup=False)) as runtime:
        runtime.wait_loaded(20)
        with Client(f"localhost:{runtime.port}", timeout=10) as client:
            pids = {ask(client, what) for what in ("", "task", "", "stop", "")}

    assert len(pids) == 1


def test_an_interrupt_from_a_thread_of_the_model_does_not_end_the_process(tmp_path: Path) -> None:
    code = """
    import _thread, os, threading, time

    def act(what):
        threading.Timer(0.2, _thread.interrupt_main).start()
        return {"y": os.getpid()}
    """
    with RuntimeManager(model_directory(tmp_path, code, ACT), 0, settings=Settings(warmup=False)) as runtime:
        runtime.wait_loaded(20)
        with Client(f"localhost:{runtime.port}", timeout=10) as client:
            first = ask(client, "")
            time.sleep(0.6)
            assert ask(client, "") == first
