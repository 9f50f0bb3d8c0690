"""What a client's program does and prints: each check's result by name as JSON, an exception as {"error": its text}."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from typing import Any


def run(*checks: Callable[..., Any]) -> None:
    """Runs the checks against the targets in the command line, NAME=HOST:PORT; a check takes those that it names."""
    targets = dict(argument.split("=", 1) for argument in sys.argv[1:])
    results = {}
    for check in checks:
        chosen = {name: targets[name] for name in inspect.signature(check).parameters}
        try:
            results[check.__name__] = check(**chosen)
        except Exception as error:  # noqa: BLE001 - the test that asks for the result shows it
            results[check.__name__] = {"error": f"{type(error).__name__}: {error}"[:2000]}
    print(json.dumps(results))
