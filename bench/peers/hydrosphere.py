"""The shape of Hydrosphere's own Python runtime, on today's libraries: lean's typed protobuf messages, and two habits of its own.

Each request and answer is formatted whole as text, of which 256 characters are logged, and the function is looked up by importing
func_main at every call. Written from the facts of its behaviour, not from its code.
"""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any

import lean

log = logging.getLogger("hydrosphere")


def respond(request: Any) -> Any:
    log.info("Received inference request: %s", str(request)[:256])
    response = lean.answer(importlib.import_module("func_main").predict, request)
    log.info("Answer: %s", str(response)[:256])
    return response


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    lean.main(*sys.argv[1:], respond=respond)
