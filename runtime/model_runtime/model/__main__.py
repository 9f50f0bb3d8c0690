"""Starts a model process. Run as a file by any Python from 3.8, so that nothing but this package becomes importable by it.

Putting the folder above this package on sys.path would show the model everything that is installed beside the runtime.
"""

import importlib.util
import json
import os
import sys


def _import_package() -> None:
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    init = os.path.join(home, "__init__.py")
    spec = importlib.util.spec_from_file_location("model_runtime", init, submodule_search_locations=[home])
    assert spec is not None and spec.loader is not None  # noqa: PT018
    package = importlib.util.module_from_spec(spec)
    sys.modules["model_runtime"] = package
    spec.loader.exec_module(package)


def _say_that_numpy_is_missing(config: str) -> None:
    """Everything else of ours imports numpy, so it has to be said here, as `process` would say it."""
    message = "the model's environment has no numpy: add it to the requirements"
    state = {"phase": "failed", "error": "ModelImportFailed", "message": message}
    os.write(json.loads(config)["status"], json.dumps(state).encode() + b"\n")
    sys.exit(1)


if __name__ == "__main__":
    sys.path.pop(0)  # this file's own folder
    _import_package()
    try:
        import numpy  # noqa: F401
    except ImportError as error:
        if getattr(error, "name", None) != "numpy":
            raise
        _say_that_numpy_is_missing(sys.argv[1])
    from model_runtime.model.process import main

    sys.exit(main(sys.argv[1]))
