"""Starts a model process. Run as a file by any Python from 3.8, so that nothing but this package becomes importable by it.

Putting the folder above this package on sys.path would show the model everything that is installed beside the runtime.
"""

import importlib.util
import json
import os
import sys
import types
from typing import Any, Dict, List

_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _import_package() -> None:
    init = os.path.join(_HOME, "__init__.py")
    spec = importlib.util.spec_from_file_location("model_runtime", init, submodule_search_locations=[_HOME])
    assert spec is not None and spec.loader is not None  # noqa: PT018
    package = importlib.util.module_from_spec(spec)
    sys.modules["model_runtime"] = package
    spec.loader.exec_module(package)


def _import_numpy(libraries: List[str]) -> None:
    """The model's own numpy hides the environment's; the standard library hides both."""
    path = list(sys.path)
    installed = next((index for index, folder in enumerate(path) if folder.endswith("-packages")), len(path))
    sys.path[installed:installed] = libraries
    try:
        import numpy
        import numpy.random  # imported late it would find the model's own `secrets`  # noqa: F401
    finally:
        sys.path[:] = path


def _fail(config: Dict[str, Any], message: str) -> None:
    """Everything else of ours imports numpy, so it has to be said here, as `process` would say it."""
    guardian.tell(config["status"], phase="failed", error="ModelImportFailed", message=message)
    sys.exit(1)


if __name__ == "__main__":
    own = os.path.join(_HOME, "model")
    if sys.path and os.path.abspath(sys.path[0]) == own:  # not where PYTHONSAFEPATH is set
        sys.path.pop(0)
    _import_package()
    from model_runtime.model import guardian

    config = json.loads(guardian.read_config())
    guardian.become_child(config)
    try:
        _import_numpy(config["libraries"])
    except Exception as error:  # noqa: BLE001  # whatever it is, the supervisor tells it
        if getattr(error, "name", None) == "numpy":
            _fail(config, "the model's environment has no numpy: add it to the requirements")
        cause = error.__cause__ or error  # numpy wraps it into a page of advice
        _fail(config, f"numpy of the model's environment cannot be imported: {type(cause).__name__}: {cause}")
    from model_runtime.model.process import main

    ours = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")  # the model's, and empty
    sys.exit(main(config))
