"""Values of foreign classes, read with care: any method of theirs, `__len__` and `__str__` too, may raise, lie or never end.

Callers catch what is raised, BaseException included. Iterators that never end are bounded here.
"""

from __future__ import annotations

import logging
from itertools import islice
from typing import Any, Dict, Mapping, Tuple

import numpy as np

from .tensor import MAX_RANK, TensorError

MOST_ELEMENTS = 1 << 26  # of lists in one output; each takes 8 bytes and more before numpy sees it
_FEW_NAMES, MOST_NAMES = 100, 10_000  # of one mapping
_TEXT_CHARACTERS = 500  # of an error's text in a violation
_ATOMS = frozenset({int, float, bool, complex, str, bytes, type(None)})
_NAME = type.__dict__["__name__"].__get__  # a metaclass may hide it
_ARRAY_METHODS = ("__array__", "__array_interface__", "__array_struct__")


def type_name(value: Any) -> str:
    """The name of the value's class."""
    return "None" if value is None else str(_NAME(type(value)))


def describe(error: BaseException, *, details: bool = True) -> str:
    """`RuntimeError: text`, or without `details` only the first word. Never raises."""
    name = type_name(error)
    try:
        text = " ".join(str(error)[: 2 * _TEXT_CHARACTERS].split()) if details else ""
    except BaseException:  # noqa: BLE001
        text = ""
    return f"{name}: {shortened(text, _TEXT_CHARACTERS)}" if text else name


def log_error(log: logging.Logger, message: str, error: BaseException, **extra: str) -> None:
    """Logs the error with its traceback, whose text is the error's own code."""
    try:
        log.error(message, exc_info=error, extra=extra)
    except BaseException:  # noqa: BLE001
        log.error(message, extra={**extra, "error": type_name(error)})


def shortened(text: str, limit: int) -> str:
    """The text, cut where it is too long."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def mapping(value: Mapping[Any, Any]) -> Dict[str, Any]:
    """The entries whose names are text, in a plain dict; others no contract can declare. Raises TensorError for too many."""
    if type(value) is dict and len(value) <= _FEW_NAMES and all(type(name) is str for name in value):
        return value
    entries = list(islice(iter(value.items()), MOST_NAMES + 1))
    if len(entries) > MOST_NAMES:
        raise TensorError(f"expected at most {MOST_NAMES} names, got more")
    return {_plain(name): each for name, each in entries if isinstance(name, str)}


def _plain(name: str) -> str:
    return str.__getitem__(name, slice(None))  # a subclass may compare and hash otherwise


def arraylike(value: Any, *, text: bool = False) -> Any:
    """What numpy can make an array of without running an iterator that may never end: lists in place of other sequences.

    With `text`, bytes in place of other buffers. Raises TensorError.
    """
    if type(value) in _ATOMS or isinstance(value, (np.ndarray, np.generic)):
        return value
    return _Sequences(text).read(value, 0)


class _Sequences:
    """One walk through nested sequences."""

    def __init__(self, text: bool) -> None:
        self._text = text
        self._left = MOST_ELEMENTS
        self._kinds: Dict[int, bool] = {}  # by id: whether numpy would take the elements one by one

    def read(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if self._text and kind in (bytearray, memoryview):
            return bytes(value)
        if kind is list or kind is tuple:
            items = value
        elif self._is_sequence(kind) and not _is_buffer(value):
            items = _items(value, self._left)
        else:
            return value
        self._left -= len(items)
        if self._left < 0:
            raise TensorError(f"expected at most {MOST_ELEMENTS} elements, got more")
        if depth >= MAX_RANK:
            raise TensorError(f"expected at most {MAX_RANK} dimensions, got more")
        if all(each in _ATOMS or issubclass(each, np.generic) for each in set(map(type, items))):
            return items
        return [self.read(item, depth + 1) for item in items]

    def _is_sequence(self, kind: type) -> bool:
        known = self._kinds.get(id(kind))
        if known is None:
            known = self._kinds[id(kind)] = _has_elements(kind)
        return known


def _has_elements(kind: type) -> bool:
    if issubclass(kind, (str, bytes, dict, np.ndarray, np.generic)):
        return False
    names = {name for base in type.mro(kind) for name in type.__getattribute__(base, "__dict__")}
    return "__len__" in names and "__getitem__" in names and not names.intersection(_ARRAY_METHODS)


def _is_buffer(value: Any) -> bool:
    try:
        memoryview(value)
    except TypeError:
        return False
    return True


def _items(value: Any, most: int) -> Tuple[Any, ...]:
    size = len(value)
    if size > most:
        raise TensorError(f"expected at most {MOST_ELEMENTS} elements, got {type_name(value)} of {size}")
    items = tuple(islice(iter(value), size + 1))
    if len(items) != size:
        came = "more" if len(items) > size else str(len(items))
        raise TensorError(f"expected {size} elements, the length of {type_name(value)}, got {came}")
    return items
