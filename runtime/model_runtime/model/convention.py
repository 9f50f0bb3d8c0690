"""The two ways in which models have been called, told apart without configuration.

Until 2.3.0 a function received `TensorProto` messages and returned a `PredictResponse`; since 2.3.1 it receives numpy values and
returns a dict. Nothing in contract or image says which. What does say it is the code: only the old convention ever needs the
name PredictResponse, so a model whose own sources mention it is called with messages.
"""

from __future__ import annotations

import ast
import sys
from enum import Enum
from types import ModuleType
from typing import Iterator

from .directory import ModelDirectory


class Convention(Enum):
    """How the model's function is called."""

    NUMPY = "numpy"  # numpy values in, a dict of values out
    MESSAGES = "messages"  # TensorProto in, PredictResponse out


_TELLTALE = "PredictResponse"


def recognise(directory: ModelDirectory, entry: ModuleType) -> Convention:
    """The convention that the model's own modules, those imported from its files, were written for."""
    modules = [entry, *_own_modules(directory)]
    return Convention.MESSAGES if any(map(_mentions_response, modules)) else Convention.NUMPY


def _own_modules(directory: ModelDirectory) -> Iterator[ModuleType]:
    root = str(directory.source)
    libraries = str(directory.source / "lib")
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None) or ""
        if file.startswith(root) and not file.startswith(libraries):
            yield module


def _mentions_response(module: ModuleType) -> bool:
    try:
        with open(module.__file__ or "", "rb") as source:
            tree = ast.parse(source.read())
    except (OSError, SyntaxError, ValueError):  # compiled, or gone: judge by what it holds
        return hasattr(module, _TELLTALE)
    return any(_names_response(node) for node in ast.walk(tree))


def _names_response(node: ast.AST) -> bool:
    return (
        (isinstance(node, ast.Name) and node.id == _TELLTALE)
        or (isinstance(node, ast.Attribute) and node.attr == _TELLTALE)
        or (isinstance(node, ast.alias) and node.name == _TELLTALE)
    )
