"""What the runtime's tests share: runtimes that serve a model written in the test."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from serving import ECHO, ECHO_CONTRACT, model_directory

from model_runtime import RuntimeManager
from model_runtime.client import Client
from model_runtime.settings import Settings

Serve = Callable[..., Client]


@pytest.fixture(autouse=True)
def undo_logging() -> Iterator[None]:
    """Our logger as it was: programs that a test runs in its own process configure it."""
    logger = logging.getLogger("model_runtime")
    before = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate, logger.level = before


@pytest.fixture
def undo_model_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Working directory and import path as they were, after a model has been loaded into the tests' own process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def serve(tmp_path: Path, undo_model_loading: None) -> Iterator[Serve]:
    """Serves a model written in the test, and gives a client of it."""
    with ExitStack() as stack:

        def start(
            code: str = ECHO, promise: Mapping[str, Any] = ECHO_CONTRACT, *, era: str = "v2", **settings: Any
        ) -> Client:
            directory = model_directory(tmp_path / "model", code, promise, era=era)
            chosen = Settings(**{"warmup": False, "batch_max_size": 1, **settings})  # tests of these two say so
            runtime = stack.enter_context(RuntimeManager(directory, 0, settings=chosen))
            runtime.wait_loaded(20)
            client = stack.enter_context(Client(f"localhost:{runtime.port}", timeout=20))
            client.runtime = runtime  # type: ignore[attr-defined]
            return client

        yield start
