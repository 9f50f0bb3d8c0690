"""Inputs of a prediction as a person types them, as tensors of a contract."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from .. import client, synthesis
from ..contract import Signature
from ..errors import InvalidRequest
from ..tensors import Tensor
from . import files

_MAX_FILE = 512 * files.MIB  # what a message may hold by default


def inputs(texts: tuple[str, ...], signature: Signature | None) -> dict[str, Tensor]:
    """Returns the tensors that `texts` describe; made up from the contract where there are none. Raises click.UsageError.

    Each text is NAME=VALUE, a JSON object of all inputs, or @FILE of one. A VALUE is JSON, bare text, or @FILE: .json, .npy, or
    anything else as the bytes of a string tensor.
    """
    if not texts:
        if signature is None:
            raise click.UsageError(
                "expected inputs, or --contract to make them up: the runtime does not tell its contract"
            )
        return synthesis.inputs(signature.inputs)
    given: dict[str, Any] = {}
    for text in texts:
        for name, value in _parse(text).items():
            if name in given:
                raise click.UsageError(f"{name}: expected one value, got several")
            given[name] = value
    try:
        return client.request_tensors(given, signature)
    except InvalidRequest as error:
        raise click.UsageError("\n".join(map(str, error.violations))) from None


def _parse(text: str) -> Mapping[str, Any]:
    name, separator, value = text.partition("=")
    if separator and not text.startswith(("{", "@")):
        return {name: _value(value)}
    everything = _file(Path(text[1:])) if text.startswith("@") else _json(text)
    if not isinstance(everything, Mapping):
        raise click.UsageError(f"{text[:60]!r}: expected NAME=VALUE or a JSON object of inputs")
    return everything


def _value(text: str) -> Any:
    """JSON where the text is JSON or was meant as such, else the text itself."""
    if text.startswith("@"):
        return _file(Path(text[1:]))
    if text[:1] in ("[", "{", '"', "-") or text[:1].isdecimal():
        try:
            return _json(text)
        except _NoJson:
            if text[:1] in ("[", "{", '"'):
                raise
            return text  # 3 apples, 2026-01-01
    try:
        return json.loads(text)  # true, null, NaN
    except ValueError:
        return text


class _NoJson(click.UsageError):
    """Text that is not JSON, as opposed to JSON that says something that cannot be."""


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_float=_float, parse_int=_int, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        problem = "nested too deeply" if isinstance(error, RecursionError) else error
        raise _NoJson(f"expected JSON: {problem}, got {text[:60]!r}") from None


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise click.UsageError(f"expected a number that double can hold, got {text[:60]}")
    return value


def _int(text: str) -> int:
    if len(text) > 20:  # uint64 has 20 digits
        raise click.UsageError(f"expected an integer of at most 64 bits, got {len(text)} digits: {text[:20]}…")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise click.UsageError(f"{repeated}: expected one value, got several")
    return dict(pairs)


def _file(path: Path) -> Any:
    try:
        data = files.read(path, _MAX_FILE)
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None
    try:
        if path.suffix == ".json":
            return _json(data.decode("utf-8"))
        return np.load(io.BytesIO(data), allow_pickle=False) if path.suffix == ".npy" else data
    except click.UsageError as error:
        raise click.UsageError(f"{path}: {error.message}") from None
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{path}: expected UTF-8: {error}") from None
    except (ValueError, EOFError, MemoryError, OSError) as error:
        raise click.UsageError(f"{path}: expected a numpy array: {error}") from None
