"""Starts one model process, with everything that makes sure it can never outlive the server."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InvalidSetting
from ..model.channel import Channel
from ..model.config import Config, ModelOptions
from ..model.directory import ModelDirectory
from ..model.service import RuntimeService

ENTRY = Path(__file__).parent.parent / "model" / "__main__.py"
# A shell that waits for the server's end of a pipe to close, and then kills the model and all it has started. It can do so even
# when the model holds its interpreter's lock, and whatever ended the server.
_GUARDIAN = 'read -r _; kill -9 -"$1"'
_VENVS = ("venv", ".venv")


@dataclass(frozen=True)
class Launch:
    """How the model processes of one runtime are started."""

    model_dir: Path
    options: ModelOptions
    python: str = sys.executable
    warm_up: bool = True
    service: type[RuntimeService] = RuntimeService

    def __post_init__(self) -> None:
        _reference(self.service)  # refused before anything is started

    def start(self) -> Started:
        """A new model process. Its descriptors are ours to close."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        status, status_end = os.pipe()
        memory = os.memfd_create("model-runtime")
        os.ftruncate(memory, mmap.PAGESIZE)
        inherited = (theirs.fileno(), status_end, memory)
        try:
            process = subprocess.Popen(
                [self.python, str(ENTRY), self._config(*inherited)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=inherited,
                start_new_session=True,  # a group of its own: the model's children go with it
            )
        except OSError as error:
            ours.close()
            os.close(status)
            raise InvalidSetting(f"MODEL_PYTHON: {self.python} cannot be started: {error.strerror}") from None
        finally:
            theirs.close()
            os.close(status_end)
        with os.fdopen(memory, "rb") as file:
            shared = mmap.mmap(file.fileno(), mmap.PAGESIZE, access=mmap.ACCESS_READ)
        return Started(process, Channel(ours), status, shared)

    def _config(self, channel: int, status: int, shared: int) -> str:
        config = Config(
            model_dir=str(self.model_dir),
            libraries=ModelDirectory(self.model_dir).libraries,
            channel=channel,
            status=status,
            shared=shared,
            options=self.options._asdict(),
            warm_up=self.warm_up,
            service=_reference(self.service),
            path=[folder for folder in sys.path if folder] if self.service is not RuntimeService else [],
        )
        return json.dumps(config._asdict())


@dataclass
class Started:
    """A model process that runs, and our ends of what leads to it."""

    process: subprocess.Popen[bytes]
    channel: Channel
    status: int
    shared: mmap.mmap
    _guardian: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self._guardian = subprocess.Popen(
            ["/bin/sh", "-c", _GUARDIAN, "guardian", str(self.process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def kill(self) -> None:
        """Ends the model and everything that it has started and left in its process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Gives everything back, once the process has ended."""
        self.kill()
        self._guardian.kill()  # before its pipe closes: by then the group's number may be another's
        self._guardian.wait()
        self.channel.close()
        os.close(self.status)
        self.shared.close()
        for pipe in (self.process.stdout, self.process.stderr, self._guardian.stdin):
            if pipe is not None:
                pipe.close()


def find_python(model_dir: Path, wanted: Path | None) -> str:
    """The Python that the model brings: MODEL_PYTHON, a virtual environment in its directory, or else ours."""
    if wanted is not None:
        return str(wanted)
    for name in _VENVS:
        python = model_dir / name / "bin" / "python"
        if python.exists():
            return str(python)
    return sys.executable


def _reference(service: type[RuntimeService]) -> str:
    """How a model process finds the class again: `module:Class`, or `file.py:Class` for a program's own."""
    if service is RuntimeService:
        return ""
    if "<locals>" in service.__qualname__:
        raise InvalidSetting(
            f"service: expected a class that can be imported, got {service.__qualname__} inside a function"
        )
    module = service.__module__
    if module == "__main__":
        module = str(Path(sys.modules["__main__"].__file__ or "").resolve())
    return f"{module}:{service.__qualname__}"
