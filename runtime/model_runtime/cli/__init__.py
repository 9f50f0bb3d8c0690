"""`model-runtime`: the command line. Here, and nowhere else, is anything printed."""

from __future__ import annotations

import sys

import click

from ..errors import ModelRuntimeError
from ..fetch import fetch
from ..server.program import EXIT_MEANINGS, EXIT_STATUS
from .check import check
from .inspect import inspect
from .install import install
from .predict import predict
from .serve import build, run, serve

EPILOG = "\b\nExit statuses:\n" + "\n".join(f"  {status}  {meaning}" for status, meaning in EXIT_MEANINGS.items())


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="model-runtime")
def command() -> None:
    """Serve a model over gRPC, and talk to one that is served.

    A model directory holds contract.protobin and files/src/func_main.py. A ModelRuntime file (YAML) describes one.

    \b
    Completion: eval "$(_MODEL_RUNTIME_COMPLETE=bash_source model-runtime)"   (or zsh_source, fish_source)
    """


for _each in (serve, run, build, install, fetch, inspect, predict, check):
    command.add_command(_each)


def main() -> int:
    """Runs the command line; errors of ours end it with one line and their exit status."""
    try:
        result = command.main(prog_name="model-runtime", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except ModelRuntimeError as error:
        click.echo(f"model-runtime: {error}", err=True)
        return next((status for kind, status in EXIT_STATUS.items() if isinstance(error, kind)), 1)
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
