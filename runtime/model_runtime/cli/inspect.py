"""`model-runtime inspect`: a contract or a model directory, as text, as YAML, or compared with another."""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from .. import contract
from ..contract import Contract, binary
from ..errors import ContractError
from ..model.directory import ModelDirectory
from . import files

_MAX_CONTRACT = 64 * files.MIB


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path), metavar="DIR|CONTRACT.PROTOBIN")
@click.option("--yaml", "as_yaml", is_flag=True, help="Print the contract in the notation of serving.yaml.")
@click.option(
    "--against",
    type=click.Path(exists=True, path_type=Path),
    metavar="DIR|CONTRACT.PROTOBIN",
    help="An older contract: list what breaks for its clients, and exit with 1 if anything does.",
)
def inspect(path: Path, as_yaml: bool, against: Path | None) -> int:
    """Show the contract of a model directory or of a contract.protobin of any era."""
    data, found = read(path)
    if against is not None:
        return _compare(read(against)[1], found)
    if as_yaml:
        click.echo(yaml.safe_dump(contract.format(found), sort_keys=False, default_flow_style=None), nl=False)
        return 0
    form = "ModelSignature (v3)" if binary.is_signature(data) else "ModelContract (v0, v2)"
    click.echo(f"{form}, {len(data)} bytes, model {found.model_name or 'without a name'}")
    for signature in found.signatures:
        click.echo(f"  {signature}")
    if path.is_dir():
        _show_directory(ModelDirectory(path.absolute()))
    return 0


def read(path: Path) -> tuple[bytes, Contract]:
    """Returns the bytes and the contract of a contract.protobin, or of the one in a directory. Raises ContractError."""
    file = path / contract.CONTRACT_FILE if path.is_dir() else path
    try:
        data = files.read(file, _MAX_CONTRACT)
        return data, contract.read(data)
    except OSError as error:
        raise ContractError(f"{file}: {error.strerror}") from None
    except ContractError as error:
        raise ContractError(f"{file}: {error}") from None


def _compare(old: Contract, new: Contract) -> int:
    changes = contract.compare(old, new)
    for change in changes:
        click.echo(str(change))
    click.echo(f"{len(changes)} breaking changes" if changes else "compatible", err=bool(changes))
    return 1 if changes else 0


def _show_directory(directory: ModelDirectory) -> None:
    held = [path for path in sorted(directory.files.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    size = sum(path.stat().st_size for path in held)
    click.echo(f"{len(held)} files, {size} bytes, below {directory.files}")
    if not directory.entry.is_file():
        click.echo(f"missing: {directory.entry}", err=True)
