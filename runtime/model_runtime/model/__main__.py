"""Starts a model process. Run as a file by any Python from 3.8, so that nothing but this package becomes importable by it.

Putting the folder above this package on sys.path would show the model everything that is installed beside the runtime.
"""

import importlib.util
import json
import os
import sys
from typing import Any, Dict, List


def _import_package() -> None:
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    init = os.path.join(home, "__init__.py")
    spec = importlib.util.spec_from_file_location("model_runtime", init, submodule_search_locations=[home])
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
        import numpy  # noqa: F401
    finally:
        sys.path[:] = path


def _fail(config: Dict[str, Any], message: str) -> None:
    """Everything else of ours imports numpy, so it has to be said here, as `process` would say it."""
    state = {"phase": "failed", "error": "ModelImportFailed", "message": message}
    os.write(config["status"], json.dumps(state).encode() + b"\n")
    sys.exit(1)


if __name__ == "__main__":
    sys.path.pop(0)  # this file's own folder
    _import_package()
    config = json.loads(sys.argv[1])
    try:
        _import_numpy(config["libraries"])
    except Exception as error:  # noqa: BLE001  # whatever it is, the supervisor tells it
        if getattr(error, "name", None) == "numpy":
            _fail(config, "the model's environment has no numpy: add it to the requirements")
        cause = error.__cause__ or error  # numpy wraps it into a page of advice
        _fail(config, f"numpy of the model's environment cannot be imported: {type(cause).__name__}: {cause}")
    from model_runtime.model.process import main

    sys.exit(main(sys.argv[1]))
