"""What a person types as inputs of a prediction, turned into tensors of a contract."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from .. import synthesis, tensors
from ..contract import Signature
from ..errors import Violation
from ..model import values
from ..tensors import Tensor, TensorError


def inputs(texts: tuple[str, ...], signature: Signature | None) -> dict[str, Tensor]:
    """The tensors that `texts` mean; made up from the contract where nothing is said. Raises click.UsageError.

    Each text is NAME=VALUE, a JSON object of all inputs, or @FILE of one. A VALUE is JSON, bare text, or @FILE: .json, .npy, or
    anything else as the bytes of a string tensor.
    """
    if not texts:
        if signature is None:
            raise click.UsageError("the contract is not known, so no inputs can be made up: give some, or --contract")
        return synthesis.inputs(signature.inputs)
    given: dict[str, Any] = {}
    for text in texts:
        given.update(_parse(text))
    return _typed(given, signature) if signature else {name: _untyped(name, value) for name, value in given.items()}


def _parse(text: str) -> Mapping[str, Any]:
    name, separator, value = text.partition("=")
    if separator and not text.startswith(("{", "@")):
        return {name: _value(value)}
    everything = _file(Path(text[1:])) if text.startswith("@") else _json(text)
    if not isinstance(everything, Mapping):
        raise click.UsageError(f"{text!r}: expected NAME=VALUE or a JSON object of inputs")
    return everything


def _value(text: str) -> Any:
    if text.startswith("@"):
        return _file(Path(text[1:]))
    try:
        return json.loads(text)
    except ValueError:
        if text[:1] in ("[", "{", '"'):  # meant as JSON
            return _json(text)
        return text


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"expected JSON: {error}, got {text[:60]!r}") from None


def _file(path: Path) -> Any:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None
    if path.suffix == ".json":
        return _json(data.decode("utf-8", "replace"))
    if path.suffix == ".npy":
        try:
            return np.load(io.BytesIO(data), allow_pickle=False)
        except ValueError as error:
            raise click.UsageError(f"{path}: expected a numpy array: {error}") from None
    return data


def _typed(given: Mapping[str, Any], signature: Signature) -> dict[str, Tensor]:
    """As the contract says. What cannot be converted is refused here; what the contract does not know, the runtime refuses."""
    violations: list[Violation] = []
    declared = {field.name for field in signature.inputs}
    answer = values.returned(signature.inputs, given, "inputs", violations)
    if violations:
        raise click.UsageError("\n".join(map(str, violations)))
    return {**answer, **{name: _untyped(name, value) for name, value in given.items() if name not in declared}}


def _untyped(name: str, value: Any) -> Tensor:
    try:
        return tensors.tensor(value)
    except TensorError as error:
        raise click.UsageError(f"{name}: {error}") from None
