"""`python -m model_runtime` serves as the environment says; with arguments it is the command line `model-runtime`."""

import sys

from . import extras, init


def command_line() -> int:
    """Runs `model-runtime`, and returns its exit status."""
    init.run()
    return extras.run("model_runtime.cli", "runtime")


def program() -> int:
    """Runs the image's program, and returns its exit status."""
    init.run()
    return extras.run("model_runtime.server.program", "runtime")


if __name__ == "__main__":
    sys.exit(command_line() if len(sys.argv) > 1 else program())
