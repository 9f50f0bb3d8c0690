"""`model-runtime serve`, `run` and `build`: serve a model directory, or build it from a ModelRuntime file first."""

from __future__ import annotations

import logging
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import grpc

from .. import requirements, settings
from ..client import Client
from ..contract import FILES_DIR, Contract
from ..requirements import Cache
from ..server import logs, program
from ..server.manager import RuntimeManager
from ..settings import Settings
from ..supervisor.launch import find_python
from . import arguments, modelruntime
from .predict import failure, show

log = logging.getLogger(__name__)

_FILE = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE.yaml")
_FILES = click.option(
    "--files",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Take the model's files from this folder instead.",
)


def _settings_help() -> str:
    rows = [f"  {variable} [{default}]\n      {meaning}" for variable, default, meaning in settings.table()]
    return "\b\nSettings, from the environment [default]:\n" + "\n".join(rows)


def _port(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    try:
        return settings.port(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}, got {value!r}") from None


_PORT = click.option("-p", "--port", callback=_port, help="The port to listen on (APP_PORT).")


@click.command(epilog=_settings_help())
@click.option("--model-dir", type=click.Path(path_type=Path), help="The model directory (MODEL_DIR).")
@_PORT
def serve(model_dir: Path | None, port: int | None) -> int:
    """Serve a model directory until SIGTERM or Ctrl-C. The image does the same."""
    return program.main(**_given(model_dir=model_dir, app_port=port))


@click.command()
@_FILE
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The model directory to write.")
@click.option(
    "--install/--no-install", default=True, show_default=True, help="Install the model's requirements into it."
)
@_FILES
def build(file: Path, output: Path, install: bool, files: Path | None) -> int:
    """Build the model directory of a ModelRuntime file: contract.protobin, files/, warmup.json and lib/."""
    logs.configure("info", "text")
    read = modelruntime.read(file, files)
    _build(read, output, settings.from_environment(), None, install=install)
    click.echo(f"{output}: {read.contract}")
    return 0


@click.command()
@_FILE
@_PORT
@_FILES
@click.option("--predict", "predict_once", is_flag=True, help="Send one prediction, print the answer and exit.")
@click.option(
    "-i", "--input", "inputs", multiple=True, help="An input of --predict, as `model-runtime predict` takes them."
)
@click.option(
    "--cache/--no-cache",
    "use_cache",
    default=True,
    show_default=True,
    help="Keep installed requirements below XDG_CACHE_HOME, and use those of an earlier run.",
)
def run(
    file: Path,
    port: int | None,
    files: Path | None,
    predict_once: bool,
    inputs: tuple[str, ...],
    use_cache: bool,
) -> int:
    """Serve the model of a ModelRuntime file here, without a cluster. Its model directory is temporary.

    The spec's contract, model, requirements, port, env, warmup, processes and batching are honoured; variables of this shell
    go before them. Other fields need a cluster: they are ignored, and named at the start.
    """
    logs.configure("info", "text")
    read = modelruntime.read(file, files)
    if read.ignored:
        log.warning("fields without effect outside a cluster", extra={"ignored": ", ".join(read.ignored)})
    settings.export(read.environment)
    answer = _Answer(read.contract, inputs) if predict_once else None
    with (
        _stopped_by_sigterm(),
        requirements.user_cache(use_cache) as cache,
        tempfile.TemporaryDirectory(prefix=f"model-runtime-{read.name}-") as folder,
    ):
        chosen = _given(app_port=port or read.port, model_dir=Path(folder))
        chosen |= {"load_failure_seconds": 0.0, "drain_delay_seconds": 0.0, "drain_limit_seconds": 0.0}
        wanted = settings.from_environment(**chosen)
        _build(read, Path(folder), wanted, cache)
        status = program.serve(wanted, port=0 if answer and not port else None, on_serving=answer)
    return status or (answer.status if answer else 0)


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM while the directory is built ends the command as Ctrl-C does: what was begun is removed."""
    before = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Answer:
    """Sends one prediction to a runtime that has become ready, prints the answer and lets the runtime stop."""

    def __init__(self, contract: Contract, inputs: tuple[str, ...]) -> None:
        self.status = 0
        self._request = arguments.inputs(inputs, contract.signatures[0])

    def __call__(self, runtime: RuntimeManager) -> bool:
        with Client(f"localhost:{runtime.port}") as client:
            try:
                show(client.predict(self._request), "json", 0.0)
            except grpc.RpcError as error:
                click.echo(failure(error, client.target), err=True)
                self.status = 1
        return False


def _build(
    read: modelruntime.ModelRuntimeFile, directory: Path, wanted: Settings, cache: Cache | None, *, install: bool = True
) -> None:
    """Writes the model directory, with the requirements for the Python that will run the model."""
    directory.mkdir(parents=True, exist_ok=True)
    read.build(directory)
    if install and (listed := read.wanted(directory)):
        python = find_python(directory, wanted.model_python)
        requirements.install(listed, directory, base=directory / FILES_DIR, python=python, cache=cache)


def _given(**options: Any) -> dict[str, Any]:
    """Returns the options that were given; the environment decides the others."""
    return {name: value for name, value in options.items() if value is not None}
