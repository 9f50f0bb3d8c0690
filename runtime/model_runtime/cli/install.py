"""`model-runtime install`: a model's requirements, into its own directory."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .. import requirements, settings
from ..contract import FILES_DIR
from ..errors import ModelNotFound, RequirementsFailed
from ..server import logs, program

DEFAULT_FILE = "requirements.txt"


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.argument("wanted", nargs=-1, metavar="[REQUIREMENT]...")
@click.option(
    "-r", "--requirements", "file", type=click.Path(path_type=Path), help="A file of requirements instead of DIR's own."
)
@click.option(
    "--wheels",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Install from this folder, without a network.",
)
@click.option("--python", default=sys.executable, help="The Python that the model will run on (default: this one).")
def install(directory: Path, wanted: tuple[str, ...], file: Path | None, wheels: Path | None, python: str) -> int:
    """Install requirements into the model directory DIR (its lib/), never into the runtime's environment.

    Without REQUIREMENTs those of DIR/files/requirements.txt are installed, with their hashes where it gives any.
    """
    logs.configure("info", "text")
    if not directory.is_dir():
        raise ModelNotFound(f"model directory {directory}: expected a directory, found none")
    lines = list(wanted) or requirements.read(file or directory / FILES_DIR / DEFAULT_FILE)
    try:
        requirements.install(lines, directory, python=python, wheels=wheels)
    except RequirementsFailed as error:  # as an init step of a pod: its operator reads the termination log
        return program.report(error, settings.from_environment().termination_log)
    return program.OK
