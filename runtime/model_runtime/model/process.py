"""The model process: loads the model in its own environment and answers the calls that come over the channel.

Started by the supervisor through `__main__` and `guardian`, in whatever Python the model brings. One thread reads, calls and
answers; what has queued up meanwhile is answered together where contract and model allow. Everything of Python that belongs to a
whole process is the model's: nothing here changes it, and what is imported here is imported before the model's own path is added.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import mmap
import os
import select
import socket
import sys
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Deque, Dict, List, Sequence, Type

from .. import errors, memory
from ..errors import ContractError, ModelError, ModelFailure, ModelImportFailed, OutputMismatch, PredictionError
from ..outcome import Call, Outcome
from ..prediction import Predictor
from . import journal, messages, warmup  # noqa: F401  # messages: late, its imports would find the model's own modules
from .channel import ANSWER, CALL, CANCEL, DROPPED, FAILURE, Channel, ChannelError, Frame
from .config import FAILURE_BYTES, METHODS, TAKEN, Config, ModelOptions
from .directory import ModelDirectory
from .service import RuntimeService

log = logging.getLogger(__name__)

ASYNC_THREADS = 64  # calls of an async function that may wait at a time
READ_AHEAD_BYTES = 16 << 20  # of calls that wait in this process; more wait in the server, where they are counted
_LONG_BYTES = 1 << 15  # a call whose cancellation may stand right behind it
_TEXT_CHARACTERS = 4000  # of an error's text


def main(given: Dict[str, Any]) -> int:
    """Serves until the channel closes. The exit status says nothing: a model that cannot be loaded is told by its state."""
    config = Config(**given)
    status = journal.Status(config.status)
    journal.keep_apart(status)
    memory.keep_large_buffers()
    channel = _inherited(config)
    _become_the_models(ModelDirectory(Path(config.model_dir)))
    try:
        predictor = _loaded(config)
    except BaseException as error:  # whatever it is, the supervisor tells it
        if not isinstance(error, (ModelError, ContractError)):
            log.error("the model cannot be loaded", exc_info=error)
        status.tell(phase="failed", error=_known(error, ModelError), message=_text(error))
        return 1
    status.tell(phase="serving")
    _Server(channel, predictor, config).run()
    return 0


def _inherited(config: Config) -> Channel:
    """The channel. Programs that the model starts do not inherit it, and children that it forks must not keep it open."""
    os.set_inheritable(config.channel, False)
    channel = Channel(socket.socket(fileno=config.channel), (CALL, CANCEL), config.max_message_bytes)
    os.register_at_fork(after_in_child=channel.close)
    return channel


def _become_the_models(directory: ModelDirectory) -> None:
    """Arguments as if the model had been started itself, and its libraries for the Pythons that it starts."""
    sys.argv[:] = [str(directory.entry)]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = [sys.executable, str(directory.entry)]
    given = os.environ.get("PYTHONPATH", "")  # noqa: TID251  # Python's, not a setting of ours
    path = [*directory.import_path, *([given] if given else []), str(directory.path)]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)  # noqa: TID251
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # each line is logged when it is written


def _known(error: BaseException, root: Type[BaseException]) -> str:
    """The name by which the supervisor knows an error: a custom runtime may raise classes of its own."""
    for kind in type(error).__mro__:
        name = str(kind.__name__)
        if issubclass(kind, root) and getattr(errors, name, None) is kind:
            return name
    return str(root.__name__)


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001  # the model's own code
        text = "an error without a text"
    text = text if isinstance(error, errors.ModelRuntimeError) else f"{type(error).__name__}: {text}"
    return journal.shortened(text, _TEXT_CHARACTERS)


def _loaded(config: Config) -> Predictor:
    directory = ModelDirectory(Path(config.model_dir))
    service = _service_class(config)(directory.path, directory.read_contract())
    service.options = ModelOptions(**config.options)
    service.load()
    predictor = Predictor(service)
    if config.warm_up:
        warmup.warm_up(predictor, service)
    predictor.try_batching()
    return predictor


def _service_class(config: Config) -> Type[RuntimeService]:
    if not config.service:
        return RuntimeService
    module, _, name = config.service.rpartition(":")
    sys.path[:0] = [folder for folder in config.path if folder not in sys.path]
    try:
        found: Any = _from_file(module) if module.endswith(".py") else importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return found  # type: ignore[no-any-return]
    except BaseException as error:
        raise ModelImportFailed(f"the runtime's class {config.service} cannot be imported: {_text(error)}") from error


def _from_file(path: str) -> Any:
    """A program's own file, imported under another name than `__main__`, as multiprocessing does."""
    spec = importlib.util.spec_from_file_location("__mp_main__", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["__mp_main__"] = module
    spec.loader.exec_module(module)
    return module


class _Server:
    """Takes calls from the channel in the order in which they came, and answers them."""

    def __init__(self, channel: Channel, predictor: Predictor, config: Config) -> None:
        self._channel = channel
        self._predictor = predictor
        self._shared = mmap.mmap(config.shared, mmap.PAGESIZE)
        self._waiting: Deque[Frame] = deque()
        self._limit = predictor.batch_limit
        self._readable = select.poll()  # an interrupt of the main thread is raised here, where no bytes are lost by it
        self._readable.register(channel.stream, select.POLLIN)
        self._max_bytes = config.max_message_bytes
        self._send_lock = threading.Lock()
        self._own_process = os.getpid()
        threads = ASYNC_THREADS if predictor.is_async else predictor.options.threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="model") if threads > 1 else None
        self._free = threading.BoundedSemaphore(threads)

    def run(self) -> None:
        while True:
            try:
                self._take_in(self._arrived())
                self._answer_next()
            except (EOFError, OSError, ChannelError):  # the server has ended, or given this process up
                return
            except KeyboardInterrupt:  # a thread of the model's has interrupted the main one, which was not calling it
                log.warning("the model interrupted its process", exc_info=True)

    def _arrived(self) -> List[Frame]:
        frames = [] if self._waiting else self._channel.receive(self._readable.poll)
        if self._waiting or any(len(frame.payload) > _LONG_BYTES for frame in frames):
            held = sum(len(frame.payload) for frame in (*self._waiting, *frames))
            frames += self._channel.receive_waiting(READ_AHEAD_BYTES - held)
        return frames

    def _take_in(self, frames: List[Frame]) -> None:
        for frame in frames:
            if frame.kind == CALL:
                self._waiting.append(frame)
            elif any(waiting.id == frame.id for waiting in self._waiting):
                self._waiting = deque(waiting for waiting in self._waiting if waiting.id != frame.id)
                self._send([Frame(DROPPED, 0, frame.id)])

    def _answer_next(self) -> None:
        count = min(len(self._waiting), self._limit)
        if count == 0:
            return
        frames = [self._waiting.popleft() for _ in range(count)]
        if self._pool is None:
            self._answer(frames)
        else:
            self._free.acquire()
            self._pool.submit(self._answer_in_thread, frames)

    def _answer_in_thread(self, frames: List[Frame]) -> None:
        try:
            self._answer(frames)
        except OSError:  # the server has ended
            os._exit(0)
        finally:
            self._free.release()

    def _answer(self, frames: List[Frame]) -> None:
        TAKEN.pack_into(self._shared, 0, frames[-1].id)
        outcomes = self._outcomes(frames)
        if os.getpid() != self._own_process:  # the model forked and returned twice
            os._exit(0)
        self._send([self._answer_frame(frame.id, outcome) for frame, outcome in zip(frames, outcomes)])

    def _outcomes(self, frames: Sequence[Frame]) -> List[Outcome]:
        try:
            return self._predictor.handle_all(
                [Call(METHODS[frame.code], frame.payload, frame.first) for frame in frames]
            )
        except BaseException as error:  # the last net below whatever the model does: the process goes on
            log.error("a prediction failed outside the model's function", exc_info=error)
            failure = ModelFailure("the model failed outside its function: see the runtime's log")
            return [Outcome(failure)] * len(frames)

    def _send(self, frames: List[Frame]) -> None:
        with self._send_lock:
            self._channel.send(frames)

    def _answer_frame(self, number: int, outcome: Outcome) -> Frame:
        result, times = outcome.result, (outcome.model_seconds, outcome.codec_seconds)
        batch = min(outcome.batch, 255)
        if not isinstance(result, PredictionError) and len(result) > self._max_bytes:
            text = f"the answer has {len(result)} bytes, expected at most {self._max_bytes} (MAX_MESSAGE_BYTES)"
            result = OutputMismatch(text)
        if isinstance(result, PredictionError):
            return Frame(FAILURE, batch, number, _error_payload(result), *times)
        return Frame(ANSWER, batch, number, result, *times)


def _error_payload(error: PredictionError) -> bytes:
    """The error as JSON, cut where it would be too long. A custom runtime's own classes may hold anything."""
    try:
        summary = journal.shortened(str(error.summary), _TEXT_CHARACTERS)
        violations = [[str(part) for part in violation] for violation in error.violations]
    except BaseException:  # noqa: BLE001
        summary, violations = _text(error), []
    described = {"error": _known(error, PredictionError), "summary": summary, "violations": violations}
    payload = json.dumps(described).encode()
    if len(payload) > FAILURE_BYTES:
        payload = json.dumps({**described, "violations": []}).encode()
    return payload
