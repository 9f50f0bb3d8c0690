"""The extra that a missing package belongs to: a bare `pip install model-runtime` brings no packages.

Standard library only: it is imported where nothing else is installed, and on any Python from 3.8.
"""

from __future__ import annotations

import sys
from importlib import import_module

EXIT_STATUS = 9  # server.program.EXIT_MEANINGS says it to people; that module needs the packages
_PROGRAMS = {"runtime": "model-runtime", "operator": "model-runtime-operator"}
_OURS = ("model_runtime", "model_runtime_operator")


def run(module: str, extra: str) -> int:
    """Returns what `main` of `module` returns, or EXIT_STATUS where a package of `extra` is missing."""
    try:
        main = import_module(module).main
    except ModuleNotFoundError as error:
        return report(error, extra)
    return int(main())


def report(error: ModuleNotFoundError, extra: str) -> int:
    """Prints one line that names the extra, and returns EXIT_STATUS. Raises the error again where a module of ours is missing."""
    problem = explained(error, extra)
    if problem is error:
        raise error
    sys.stderr.write(f"{_PROGRAMS[extra]}: {problem}\n")
    return EXIT_STATUS


def explained(error: ModuleNotFoundError, extra: str) -> ModuleNotFoundError:
    """Returns the error with the extra to install in its text, or the same error where the missing module is ours."""
    package = (error.name or "").partition(".")[0]
    if not package or package in _OURS:
        return error
    text = f"the package {package!r} is not installed; install it with: pip install 'model-runtime[{extra}]'"
    return ModuleNotFoundError(text, name=error.name)
