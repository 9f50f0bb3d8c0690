"""`model-runtime install`: a model's requirements, into its own directory."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click

from .. import requirements, settings
from ..contract import FILES_DIR
from ..errors import ModelNotFound, RequirementsFailed
from ..requirements import Wanted
from ..requirements.settings import limits
from ..server import program, step
from ..supervisor.launch import find_python

DEFAULT_FILE = "requirements.txt"


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.argument("lines", nargs=-1, metavar="[REQUIREMENT]...")
@click.option(
    "-r", "--requirements", "file", type=click.Path(path_type=Path), help="A file of requirements instead of DIR's own."
)
@click.option(
    "--files",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder from which relative paths in the requirements lead (default: DIR/files, MODEL_DIR/files or this one).",
)
@click.option(
    "--wheels",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Install from this folder, without a network.",
)
@click.option(
    "--python", help="The Python that the model will run on (default: MODEL_PYTHON, DIR's venv, or this one)."
)
def install(
    directory: Path,
    lines: tuple[str, ...],
    file: Path | None,
    files: Path | None,
    wheels: Path | None,
    python: str | None,
) -> None:
    """Install requirements into the model directory DIR (its lib/), never into the runtime's environment.

    Without REQUIREMENTs those of DIR/files/requirements.txt are installed. pip reads them, or uv, by their own rules: -r, -c, -e,
    hashes, local wheels and folders. INSTALL_TIMEOUT_SECONDS and INSTALL_MAX_BYTES bound it. Exit status 6: it failed.
    """
    work = partial(_install, directory, lines, file, files, wheels, python)
    status = step.run(work, RequirementsFailed, lambda: limits().timeout_seconds + _GRACE_SECONDS)
    if status != program.OK:
        sys.exit(status)


_GRACE_SECONDS = 60  # the installer's own time limit has the better words


def _install(
    directory: Path,
    lines: tuple[str, ...],
    file: Path | None,
    files: Path | None,
    wheels: Path | None,
    python: str | None,
) -> None:
    if not directory.is_dir():
        raise ModelNotFound(f"model directory {directory}: expected a directory, found none")
    here = settings.from_environment()
    if not lines and file is None:
        file = directory / FILES_DIR / DEFAULT_FILE
    requirements.install(
        Wanted(lines, file),
        directory,
        base=files or _base(file, directory / FILES_DIR, here.model_dir / FILES_DIR),
        python=python or find_python(directory, here.model_python),
        wheels=wheels,
    )


def _base(file: Path | None, *folders: Path) -> Path:
    """The working directory: the folder of the model's files that holds the requirements, or ours as with pip itself."""
    for folder in folders:
        if folder.is_dir() and (file is None or file.resolve().is_relative_to(folder.resolve())):
            return folder
    return Path()
