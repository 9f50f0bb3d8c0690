"""The start of a model process where the system lacks something: calls of Linux, descriptors, threads."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from serving import Program, free_port, model_directory

from model_runtime import RuntimeManager, tensors
from model_runtime.client import Client
from model_runtime.model.config import ModelOptions
from model_runtime.settings import Settings, model_environment
from model_runtime.supervisor.host import HostState, Phase
from model_runtime.supervisor.isolated import IsolatedHost
from model_runtime.supervisor.launch import Launch, Started

ACT = {"name": "act", "inputs": {"what": {"shape": "scalar", "type": "string"}}, "outputs": {"y": {"type": "string"}}}
CODE = """
import os, pathlib

def act(what):
    what = str(what)
    if what == "exit":
        os._exit(1)
    try:
        return {"y": pathlib.Path(what).read_bytes()[:20].hex() if what else "ok"}
    except OSError as error:
        return {"y": f"refused: {error.strerror}"}
"""


class Elsewhere(Program):
    """The program on a system without what `forgotten` (Python code) takes away."""

    def __init__(self, model: Path, forgotten: str, *, front: Sequence[str] = (), **environment: str) -> None:
        self.port = free_port()
        run = f"{forgotten}; import sys; from model_runtime.server.program import main; sys.exit(main())"
        variables = {"MODEL_DIR": str(model), "APP_PORT": str(self.port), "DRAIN_DELAY_SECONDS": "0", "WARMUP": "false"}
        self.process = subprocess.Popen(
            [*front, sys.executable, "-c", run],
            env={**os.environ, **variables, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def ask(client: Client, what: str) -> str:
    return str(client.predict({"what": tensors.tensor(what)})["y"])


@pytest.mark.parametrize(
    "forgotten",
    [
        "import os; del os.memfd_create, os.pidfd_open",
        "import os; os.memfd_create = lambda *_: (_ for _ in ()).throw(OSError(38, 'Function not implemented'))",
    ],
    ids=["macOS", "an old kernel"],
)
def test_models_are_served_and_restarted_without_the_calls_of_a_new_linux(tmp_path: Path, forgotten: str) -> None:
    with Elsewhere(model_directory(tmp_path, CODE, ACT), forgotten) as program:
        program.wait_serving()
        with program.client() as client:
            assert ask(client, "") == "ok"
            with pytest.raises(grpc.RpcError, match="ended with exit status 1 while it was answering"):
                ask(client, "exit")
            program.wait_serving()
            assert ask(client, "") == "ok"
        program.terminate()
        status, _ = program.end()

    assert status == 0


def test_without_subreapers_the_model_is_served_and_the_log_says_once_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "site" / "ctypes").mkdir(parents=True)
    (tmp_path / "site" / "ctypes" / "__init__.py").write_text("raise ImportError('no ctypes here')")
    model = model_directory(tmp_path / "model", CODE, ACT)
    with Elsewhere(model, "pass", PYTHONPATH=str(tmp_path / "site"), MODEL_PROCESSES="2") as program:
        program.wait_serving()
        with program.client() as client, pytest.raises(grpc.RpcError, match="exit status 1"):
            ask(client, "exit")
        program.wait_serving()
        program.terminate()
        status, errors = program.end()

    assert status == 0
    assert errors.count("may outlive it problem=") == 1
    assert "this system cannot hide it" in errors


# Secrets ----------------------------------------------------------------------------------------------------------------


def test_the_model_can_read_neither_the_servers_memory_nor_its_environment(tmp_path: Path) -> None:
    """Without the capabilities to look into any process, as in a container."""
    powerless = ["setpriv", "--bounding-set=-sys_ptrace,-sys_admin,-perfmon"]
    if not shutil.which("setpriv") or subprocess.run([*powerless, "true"], capture_output=True).returncode != 0:
        pytest.skip("no capability can be dropped here")
    with Elsewhere(model_directory(tmp_path, CODE, ACT), "pass", front=powerless) as program:
        program.wait_serving()
        with program.client() as client:
            server = f"/proc/{program.process.pid}"
            seen = [ask(client, f"{server}/{file}") for file in ("mem", "environ", "maps", "cmdline")]
            own = bytes.fromhex(ask(client, "/proc/self/environ"))
        program.terminate()
        program.end()

    assert seen[:3] == ["refused: Permission denied"] * 3
    assert bytes.fromhex(seen[3])  # what everybody may see
    assert own


def test_the_models_environment_is_ours_without_what_is_the_servers_own() -> None:
    given = {
        "HOME": "/tmp", "AWS_SECRET_ACCESS_KEY": "of the model", "MINE": "1", "CUDA_VISIBLE_DEVICES": "0",
        "MODEL_DIR": "/model", "MODEL_PROCESSES": "2", "LOG_LEVEL": "info", "BATCH_MAX_SIZE": "8",
    }  # fmt: skip
    own = {
        "TLS_KEY_FILE": "/tls/tls.key", "TLS_CERT_FILE": "/tls/tls.crt", "APP_PORT": "9090", "TERMINATION_LOG": "/x",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=secret", "PIP_INDEX_URL": "https://user:secret@index.example/",
    }  # fmt: skip

    assert model_environment({**given, **own}) == given


# Want of resources ------------------------------------------------------------------------------------------------------


def test_a_want_of_descriptors_at_a_restart_is_waited_out(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with RuntimeManager(model_directory(tmp_path, CODE, ACT), 0, settings=Settings(warmup=False)) as runtime:
        runtime.wait_loaded(20)
        with Client(f"localhost:{runtime.port}", timeout=20) as client:
            assert ask(client, "") == "ok"
            held: list[int] = []
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 512), hard))
                while len(held) < 600:
                    held.append(os.dup(0))
            except OSError as error:
                assert error.errno == errno.EMFILE
            try:
                with pytest.raises(grpc.RpcError):
                    ask(client, "exit")
                os.close(held.pop())  # what the end gave back is taken again by nobody else
                while len(held) < 600:
                    try:
                        held.append(os.dup(0))
                    except OSError:
                        break
                time.sleep(2)
                during = runtime.state
            finally:
                for descriptor in held:
                    os.close(descriptor)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            after = runtime.wait_loaded(20)
            assert ask(client, "") == "ok"

    assert during.phase is Phase.LOADING or during.message == "ok"
    assert after.phase is Phase.SERVING


class _Scarce(Launch):
    """Fails a few times, as the system does."""

    errors: list[BaseException]

    def start(self) -> Started:
        if self.errors:
            raise self.errors.pop()
        return super().start()


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EMFILE, "x"), OSError(errno.ENOMEM, "x"), BlockingIOError(errno.EAGAIN, "x"), RuntimeError("x")],
    ids=["descriptors", "memory", "processes", "threads"],
)
def test_a_start_without_resources_is_tried_again_until_there_are_some(tmp_path: Path, error: BaseException) -> None:
    launch = _Scarce(model_directory(tmp_path, CODE, ACT), ModelOptions(), warm_up=False)
    object.__setattr__(launch, "errors", [error] * 3)
    host = IsolatedHost(launch, processes=1, timeout=10, load_timeout=30)
    states: list[HostState] = []
    host.start(states.append)
    eventually(lambda: states[-1].phase is Phase.SERVING)
    host.stop()

    assert {state.phase for state in states[:-1]} == {Phase.LOADING}
    assert "the model process cannot be started: x; it is being started again" in [state.message for state in states]
    assert host.restarts == 0


def eventually(check: Callable[[], Any]) -> None:
    end = time.monotonic() + 20
    while not check():
        assert time.monotonic() < end
        time.sleep(0.02)
