"""The model runtime: finds a model in a directory and answers predictions over gRPC.

`RuntimeManager` serves a model directory on a port; a subclass of `RuntimeService` is a custom runtime, and `serve(ThatClass)`
its program. `Client` calls a runtime. The command line is `model-runtime`, the image's program `python -m model_runtime`.
Importing this package imports nothing else: the model process needs some of it, and must not pay for the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Client
    from .errors import InvalidRequest
    from .model.service import RuntimeService
    from .server.manager import RuntimeManager
    from .server.program import main as serve

__all__ = ["Client", "InvalidRequest", "RuntimeManager", "RuntimeService", "serve"]
_HOMES = {  # name: the module it lives in, and its name there
    "Client": ("client", "Client"),
    "InvalidRequest": ("errors", "InvalidRequest"),
    "RuntimeManager": ("server.manager", "RuntimeManager"),
    "RuntimeService": ("model.service", "RuntimeService"),
    "serve": ("server.program", "main"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    from . import extras

    module, attribute = _HOMES[name]
    try:
        return getattr(import_module(f"{__name__}.{module}"), attribute)
    except ModuleNotFoundError as error:
        raise extras.explained(error, "runtime") from None
