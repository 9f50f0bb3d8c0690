"""The model process: loads the model in its own environment and answers the calls that come over the channel.

Started by the supervisor as `python …/model/__main__.py CONFIG`, in whatever Python the model brings. One thread reads, calls and
answers; what has queued up meanwhile is answered together where contract and model allow.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import mmap
import os
import sys
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Deque, List, Type

from .. import memory
from ..errors import ModelError, ModelImportFailed, ModelRuntimeError, PredictionError
from ..outcome import Call, Outcome
from ..prediction import Predictor
from . import warmup
from .channel import ANSWER, CALL, CANCEL, FAILURE, Channel, Frame, inherited
from .config import METHODS, TAKEN, Config, ModelOptions
from .directory import ModelDirectory
from .service import RuntimeService

log = logging.getLogger(__name__)

ASYNC_THREADS = 64  # calls of an async function that may wait at a time


def main(text: str) -> int:
    """Serves until the channel closes. The exit status says nothing: a model that cannot be loaded is told by its state."""
    config = Config(**json.loads(text))
    _log_to_stdout()
    memory.keep_large_buffers()
    status = _Status(config.status)
    channel = inherited(config.channel)
    os.register_at_fork(
        after_in_child=channel.close
    )  # a child of the model must neither answer nor keep the channel open
    try:
        predictor = _loaded(config)
    except ModelRuntimeError as error:
        status.tell(phase="failed", error=type(error).__name__, message=str(error))
        return 1
    except BaseException as error:
        log.exception("the model cannot be loaded")
        status.tell(phase="failed", error=ModelError.__name__, message=f"{type(error).__name__}: {error}")
        return 1
    status.tell(phase="serving", batching=predictor.batches)
    _Server(channel, predictor, config).run()
    return 0


def _log_to_stdout() -> None:
    """Our own lines only, and not to stderr: what is there last is taken for the model's last words."""
    logger = logging.getLogger("model_runtime")
    logger.addHandler(logging.StreamHandler(sys.stdout))
    logger.setLevel(logging.INFO)
    logger.propagate = False


class _Status:
    """Tells the supervisor how it stands."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor

    def tell(self, **state: Any) -> None:
        os.write(self._descriptor, json.dumps(state).encode() + b"\n")


def _loaded(config: Config) -> Predictor:
    directory = ModelDirectory(Path(config.model_dir))
    service = _service_class(config)(directory.path, directory.read_contract())
    service.options = ModelOptions(**config.options)
    service.load()
    predictor = Predictor(service)
    if config.warm_up:
        warmup.warm_up(predictor, service)
    if service.options.batch_max_size > 1:
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
    except Exception as error:
        raise ModelImportFailed(f"the runtime's class {config.service} cannot be imported: {error}") from error


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
        self._limit = predictor.options.batch_max_size if predictor.batches else 1
        self._send_lock = threading.Lock()
        self._own_process = os.getpid()
        threads = ASYNC_THREADS if predictor.is_async else predictor.options.threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="model") if threads > 1 else None
        self._free = threading.BoundedSemaphore(threads)

    def run(self) -> None:
        try:
            while True:
                self._take_in(self._channel.receive_waiting() if self._waiting else self._channel.receive())
                self._answer_next()
        except (EOFError, OSError):  # the server has ended, or given this process up
            return

    def _take_in(self, frames: List[Frame]) -> None:
        for frame in frames:
            if frame.kind == CALL:
                self._waiting.append(frame)
            elif frame.kind == CANCEL:
                self._waiting = deque(waiting for waiting in self._waiting if waiting.id != frame.id)

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
        outcomes = self._predictor.handle_all(
            [Call(METHODS[frame.code], frame.payload, frame.first) for frame in frames]
        )
        if os.getpid() != self._own_process:  # the model forked and returned twice
            os._exit(0)
        answers = [_answer_frame(frame.id, outcome) for frame, outcome in zip(frames, outcomes)]
        with self._send_lock:
            self._channel.send(answers)


def _answer_frame(number: int, outcome: Outcome) -> Frame:
    batch = min(outcome.batch, 255)
    if isinstance(outcome.result, PredictionError):
        payload = _error_payload(outcome.result)
        return Frame(FAILURE, batch, number, payload, outcome.model_seconds, outcome.codec_seconds)
    return Frame(ANSWER, batch, number, outcome.result, outcome.model_seconds, outcome.codec_seconds)


def _error_payload(error: PredictionError) -> bytes:
    described = {"error": type(error).__name__, "summary": error.summary, "violations": error.violations}
    return json.dumps(described).encode()
