"""Starts one model process, with everything that makes sure it can never outlive the server."""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .. import settings
from ..errors import InvalidSetting
from ..model.channel import Channel
from ..model.config import FAILURE_BYTES, TAKEN, Config, ModelOptions
from ..model.directory import ModelDirectory
from ..model.service import RuntimeService
from . import replies

ENTRY = Path(__file__).parent.parent / "model" / "__main__.py"
_VENVS = ("venv", ".venv")
# What the system says of a program that it cannot run; anything else is a want of resources, which passes.
_NOT_A_PROGRAM = (
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.ENOEXEC,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
)


@dataclass(frozen=True)
class Launch:
    """How the model processes of one runtime are started."""

    model_dir: Path
    options: ModelOptions
    python: str = sys.executable
    warm_up: bool = True
    service: type[RuntimeService] = RuntimeService
    max_message_bytes: int = 512 << 20

    def __post_init__(self) -> None:
        _reference(self.service)  # refused before anything is started

    def start(self) -> Started:
        """A new model process. Its descriptors are ours to close.

        Raises InvalidSetting where the Python cannot be run, and OSError where the system has no resources for it now.
        """
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            ours.enter_context(near)
            theirs.enter_context(far)
            status, status_end = _pipe(ours, theirs)
            lease, lease_end = _pipe(ours, theirs)
            shared = _shared_page()
            ours.callback(os.close, shared)
            config = self._config(far.fileno(), status_end, shared, lease_end)
            process = self._run((config.channel, config.status, config.shared, config.lease))
            ours.pop_all()
        _hand_over(process, config)
        channel = Channel(near, replies.KINDS, self.max_message_bytes + FAILURE_BYTES)
        return Started(process, channel, status, lease, shared)

    def _run(self, inherited: tuple[int, ...]) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                [self.python, str(ENTRY)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=inherited,
                env=settings.model_environment(),
                start_new_session=True,  # a terminal's Ctrl-C is for the server
            )
        except OSError as error:
            if error.errno not in _NOT_A_PROGRAM:
                raise
            raise InvalidSetting(f"MODEL_PYTHON: {self.python} cannot be started: {error.strerror}") from None

    def _config(self, channel: int, status: int, shared: int, lease: int) -> Config:
        return Config(
            model_dir=str(self.model_dir),
            libraries=ModelDirectory(self.model_dir).libraries,
            channel=channel,
            status=status,
            shared=shared,
            lease=lease,
            options=self.options._asdict(),
            warm_up=self.warm_up,
            service=_reference(self.service),
            path=[folder for folder in sys.path if folder] if self.service is not RuntimeService else [],
            max_message_bytes=self.max_message_bytes,
        )


@dataclass(frozen=True)
class Started:
    """A model process that runs below its guardian (`process`), and our ends of what leads to it."""

    process: subprocess.Popen[bytes]
    channel: Channel
    status: int
    lease: int  # readable once the guardian has ended
    shared: int

    def begun(self) -> int:
        """The last call that the model was handed. Read, not mapped: the model could cut the page off below us."""
        data = os.pread(self.shared, TAKEN.size, 0)
        return int(TAKEN.unpack(data)[0]) if len(data) == TAKEN.size else 0

    def kill(self) -> None:
        """Orders the guardian to end the model and everything that it started."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def kill_by_force(self, model: int) -> None:
        """Ends the guardian too, where it does not obey: something has stopped it."""
        self.kill()
        self.process.kill()
        if model != self.process.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(model, signal.SIGKILL)

    def close(self) -> None:
        """Gives everything back, once the process has ended."""
        self.kill()
        self.channel.close()
        for descriptor in (self.status, self.lease, self.shared):
            os.close(descriptor)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def _pipe(ours: contextlib.ExitStack, theirs: contextlib.ExitStack) -> tuple[int, int]:
    read, write = os.pipe()
    ours.callback(os.close, read)
    theirs.callback(os.close, write)
    return read, write


def _shared_page() -> int:
    """A descriptor of a page of memory; where the system has none without a file, of a file without a name."""
    page = -1
    try:
        page = os.memfd_create("model-runtime")
    except AttributeError:  # not Linux
        pass
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EACCES):  # an old kernel, or a sandbox
            raise
    if page < 0:
        with tempfile.TemporaryFile() as file:
            page = os.dup(file.fileno())
    os.ftruncate(page, mmap.PAGESIZE)
    return page


def _hand_over(process: subprocess.Popen[bytes], config: Config) -> None:
    """Writes the configuration to the guardian. One that has ended already is noticed by its end."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(config._asdict()).encode() + b"\n")


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
