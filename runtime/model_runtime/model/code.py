"""The user's code: `files/src/func_main.py` imported, its functions found. Knows no arrays and no contract."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from types import FrameType, ModuleType, TracebackType
from typing import Any, Callable, Iterator, Optional, Tuple

from ..contract import ENTRY_MODULE
from ..errors import FunctionMissing, ModelImportFailed, ModelNotFound
from . import hydro
from .directory import ModelDirectory

_LINE_CHARACTERS = 1000  # of an exception's text, in a status that travels in headers


def import_entry(directory: ModelDirectory) -> ModuleType:
    """The module func_main, imported as every era did: libraries and sources on the path, `files` as the working directory.

    Raises ModelNotFound when the file is missing and ModelImportFailed, with the line that failed, when it cannot be imported.
    """
    if not directory.entry.is_file():
        raise ModelNotFound(f"{directory.entry}: expected the model's code, found none")
    prepare(directory)
    sys.modules.pop(ENTRY_MODULE, None)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(ENTRY_MODULE)
    except BaseException as error:  # sys.exit and interrupts too: the process is ours to end
        raise ModelImportFailed(f"{directory.entry} cannot be imported: {describe(error, directory)}") from error


def prepare(directory: ModelDirectory) -> None:
    """Makes this process the model's: import path, working directory, and Hydrosphere's stubs where the model asks for them."""
    for folder in reversed(directory.import_path):
        if folder in sys.path:
            sys.path.remove(folder)
        sys.path.insert(0, folder)
    if str(directory.path) not in sys.path:
        sys.path.append(str(directory.path))  # v3 had it there, last
    os.chdir(directory.files)
    hydro.install()


def function(module: ModuleType, name: str) -> Callable[..., Any]:
    """The function that the contract names. Raises FunctionMissing with the names that are there."""
    found = getattr(module, name, None)
    if callable(found):
        return found  # type: ignore[no-any-return]
    names = sorted(key for key, value in vars(module).items() if _is_own_function(module, key, value))
    wanted = f"the contract names the function {name!r}"
    if found is not None:
        raise FunctionMissing(f"{module.__file__}: {wanted}, which is {type(found).__name__} and cannot be called")
    raise FunctionMissing(
        f"{module.__file__}: {wanted}, expected among the module's functions: {', '.join(names) or 'none'}"
    )


def _is_own_function(module: ModuleType, name: str, value: Any) -> bool:
    return callable(value) and not name.startswith("_") and getattr(value, "__module__", None) == module.__name__


def describe(error: BaseException, directory: ModelDirectory) -> str:
    """`ZeroDivisionError: division by zero (files/src/func_main.py, line 7, in predict)`: one line, at the model's own frame."""
    text, place = _last_line(error), _own_place(error, directory)
    return f"{text} ({place})" if place else text


def _last_line(error: BaseException) -> str:
    """The last line of what Python would print of an error. Formatting it may run the model's code, which may fail as well."""
    try:
        lines = "".join(traceback.format_exception_only(type(error), error)).strip().splitlines()
    except BaseException:  # noqa: BLE001
        lines = []
    text = lines[-1] if lines else f"{type(error).__name__}, which cannot be formatted"
    return text if len(text) <= _LINE_CHARACTERS else f"{text[:_LINE_CHARACTERS]}…"


def _own_place(error: BaseException, directory: ModelDirectory) -> Optional[str]:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_relative(error.filename, directory)}, line {error.lineno}"
    root = str(directory.path)
    own = [place for place in _places(error.__traceback__) if place[0].startswith(root)]
    if not own:
        return None
    file, line, name = own[-1]
    return f"{_relative(file, directory)}, line {line}" + ("" if name == "<module>" else f", in {name}")


def _places(trace: Optional[TracebackType]) -> Iterator[Tuple[str, int, str]]:
    while trace is not None:
        frame: FrameType = trace.tb_frame
        yield frame.f_code.co_filename, trace.tb_lineno, frame.f_code.co_name
        trace = trace.tb_next


def _relative(file: str, directory: ModelDirectory) -> str:
    return os.path.relpath(file, str(directory.path)) if file.startswith(str(directory.path)) else file
