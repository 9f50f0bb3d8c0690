"""The program as process 1 of a container: a signal at any time of its start, and no zombies. In a namespace of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from serving import free_port, model_directory

NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
INIT = [str(Path(sys.executable).parent / "dumb-init"), "--single-child", "--"]
RUNTIME = [sys.executable, "-m", "model_runtime"]
OPERATOR = [sys.executable, "-m", "model_runtime_operator"]

pytestmark = pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode != 0,
    reason="no namespaces can be made here",
)


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


class Container:
    """A command as process 1 of a namespace."""

    def __init__(self, command: Sequence[str], **environment: str) -> None:
        variables = {**os.environ, "DRAIN_DELAY_SECONDS": "3", **environment}
        self.process = subprocess.Popen([*NAMESPACE, *command], env=variables, stderr=subprocess.PIPE, text=True)
        while not self._first():
            assert self.process.poll() is None
        self.one = self._first()

    def _first(self) -> int:
        """Process 1, once it is the command and no longer a copy of unshare."""
        for child in children(self.process.pid):
            if b"unshare" not in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0]:
                return child
        return 0

    def has_begun(self) -> bool:
        """Whether dumb-init has started the program. Until then, a millisecond, it may lose a signal."""
        with contextlib.suppress(FileNotFoundError):
            return any(b"python" in Path(f"/proc/{pid}/exe").readlink().name.encode() for pid in children(self.one))
        return False

    def terminate(self) -> float:
        """Seconds from SIGTERM to the end."""
        started = time.monotonic()
        os.kill(self.one, signal.SIGTERM)
        self.process.communicate(timeout=20)
        return time.monotonic() - started

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.8])
@pytest.mark.parametrize("program", [RUNTIME, OPERATOR], ids=["runtime", "operator"])
def test_a_signal_before_anything_is_imported_ends_the_container_within_a_second(
    tmp_path: Path, program: list[str], delay: float
) -> None:
    model = model_directory(tmp_path, "import time\ntime.sleep(60)\n")  # never served
    variables = {"MODEL_DIR": str(model), "APP_PORT": str(free_port()), "KUBECONFIG": str(tmp_path / "none")}
    with Container([*INIT, *program], **variables) as container:
        while not container.has_begun():
            assert container.process.poll() is None
        time.sleep(delay)
        seconds = 0.0
        if container.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it had nothing to do, and ended by itself in this moment
                seconds = container.terminate()
            print(f"\n{delay * 1000:.0f} ms after the start: gone in {seconds * 1000:.0f} ms")
            assert seconds < 1.0


def test_without_an_init_the_program_makes_its_own_before_it_imports_anything(tmp_path: Path) -> None:
    model = model_directory(tmp_path, "import time\ntime.sleep(60)\n")
    with Container(RUNTIME, MODEL_DIR=str(model), APP_PORT=str(free_port())) as container:
        started = time.monotonic()
        while not children(container.one):
            assert time.monotonic() - started < 10
            time.sleep(0.001)
        window = time.monotonic() - started
        seconds = container.terminate()

    print(f"\nan init after {window * 1000:.0f} ms; gone in {seconds * 1000:.0f} ms")
    assert seconds < 1.0
    assert container.process.returncode in (0, 128 + signal.SIGTERM)


ORPHANS = """
import subprocess, sys, time
from pathlib import Path
from model_runtime import init

init.run()
subprocess.run(["sh", "-c", "sleep 0.2 & sleep 0.1 & exit"], check=True)
own = subprocess.Popen(["sh", "-c", "exit 7"])
time.sleep(1)
states = [line for file in Path("/proc").glob("[0-9]*/status") for line in file.read_text().splitlines() if "Z (" in line]
sys.exit(f"{len(states)} zombies, own child {own.wait()}")
"""


def test_orphans_are_reaped_and_own_children_are_left_to_those_who_wait_for_them() -> None:
    with Container([sys.executable, "-c", ORPHANS]) as container:
        _, errors = container.process.communicate(timeout=20)

    assert errors.strip() == "1 zombies, own child 7"  # the own one, until it is waited for
    assert container.process.returncode == 1


def test_the_exit_status_of_the_program_is_that_of_the_container(tmp_path: Path) -> None:
    for front in ([], INIT):
        with Container([*front, *RUNTIME], MODEL_DIR=str(tmp_path / "none")) as container:
            container.process.communicate(timeout=20)

        assert container.process.returncode == 3
