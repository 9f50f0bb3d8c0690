"""`model-runtime`: the command line. Printing happens here and nowhere else."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from ..errors import ModelRuntimeError
from ..fetch import fetch
from ..server.program import EXIT_MEANINGS, EXIT_STATUS, UNEXPECTED
from .check import check
from .inspect import inspect
from .install import install
from .predict import predict
from .serve import build, run, serve

EPILOG = "\b\nExit statuses:\n" + "\n".join(f"  {status:>3}  {meaning}" for status, meaning in EXIT_MEANINGS.items())
INTERRUPTED, READER_GONE = 130, 141  # 128 and the signal's number: SIGINT, SIGPIPE


class _ReaderGone(Exception):
    """Whoever read the output (`| head`) has closed it. No OSError, for which click would have an exit status of its own."""


class _Commands(click.Group):
    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except BrokenPipeError:
            raise _ReaderGone from None


@click.group(
    cls=_Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.option("--traceback", is_flag=True, help="Show where an unexpected error came from.")
@click.version_option(package_name="model-runtime")
def command(traceback: bool) -> None:
    """Serve a model over gRPC, and call one that is served.

    A model directory holds contract.protobin and files/src/func_main.py. A ModelRuntime file (YAML) describes one.

    \b
    Completion: eval "$(_MODEL_RUNTIME_COMPLETE=bash_source model-runtime)"   (or zsh_source, fish_source)
    """


for _each in (serve, run, build, install, fetch, inspect, predict, check):
    command.add_command(_each)


def main() -> int:
    """Runs the command line and returns its exit status. Any error is one line on stderr."""
    try:
        result = command.main(prog_name="model-runtime", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except ModelRuntimeError as error:
        click.echo(f"model-runtime: {error}", err=True)
        return next((status for kind, status in EXIT_STATUS.items() if isinstance(error, kind)), UNEXPECTED)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except (_ReaderGone, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it ends
        return READER_GONE
    except Exception as error:
        if "--traceback" in sys.argv[1:2]:
            raise
        click.echo(f"model-runtime: unexpected {type(error).__name__}: {error}", err=True)
        return UNEXPECTED
