"""RuntimeService: answers the predictions of one model. The default calls func_main; a subclass serves anything else."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Union

from ..contract import Contract, Signature
from ..errors import InvalidRequest, ModelImportFailed
from . import code
from .config import ModelOptions
from .convention import Convention, recognise
from .coroutines import Coroutines
from .directory import ModelDirectory

log = logging.getLogger(__name__)

_BATCH_ATTRIBUTE = "batch_max_size"  # of a model's function: how its code asks for batching
_MOST_REQUESTS = 255


class Request(NamedTuple):
    """A prediction's question, already decoded and within the contract."""

    signature: Signature
    inputs: Dict[str, Any]
    """Name to numpy value: an ndarray of the contract's dtype and rank; a numpy scalar for a scalar field; a dict for a map."""
    era: str
    """The protocol that it came over: an era of Hydrosphere's, or "open-inference"."""


class Context(NamedTuple):
    """What surrounds a prediction."""

    timeout: Optional[float] = None
    """Seconds that are left of the client's deadline; None without one."""


class RuntimeService:
    """Answers predictions for the model in `model_path` as `contract` promises.

    A custom runtime overrides `Predict`, and `load` where it has something to load before the first call:

        class Doubler(RuntimeService):
            def Predict(self, request, context):
                return {"y": request.inputs["x"] * 2}

    Requests arrive validated; what is returned is converted to the contract's types where no value is lost, else refused.
    """

    batch_max_size: int = 0
    """How many requests may share one call of `Predict`; 0 and 1: none. A promise that each row of the outputs depends on the
    same row of the inputs alone. The setting BATCH_MAX_SIZE takes precedence."""

    def __init__(self, model_path: Union[str, Path], contract: Contract) -> None:
        self.directory = ModelDirectory(Path(model_path))
        self.contract = contract
        self.options = ModelOptions()
        self._functions: Dict[str, Callable[..., Any]] = {}
        self._convention = Convention.NUMPY
        self._coroutines = Coroutines()

    def load(self) -> None:
        """Makes the model ready to answer. Raises a ModelError (ModelNotFound, ModelImportFailed, FunctionMissing)."""
        module = code.import_entry(self.directory)
        self._functions = {sig.name: code.function(module, sig.name) for sig in self.contract.signatures}
        for name, function in self._functions.items():
            _check_batch_size(name, getattr(function, _BATCH_ATTRIBUTE, 0))
        automatic = self.options.convention == "auto"
        self._convention = recognise(self.directory, module) if automatic else Convention(self.options.convention)
        log.info("model loaded", extra={"functions": ",".join(self._functions), "convention": self._convention.value})

    def batch_limit(self, signature: str) -> int:
        """Returns how many requests may share a call: as the setting says, else the function, else the class; 1 without any."""
        asked = getattr(self._functions.get(signature), _BATCH_ATTRIBUTE, 0) or self.batch_max_size
        return max(1, self.options.batch_max_size or asked)

    @property
    def batchable(self) -> bool:
        """Returns True if `Predict` can be given the rows of several requests at once, if the contract lets it."""
        return self._convention is Convention.NUMPY and not self.is_async

    @property
    def is_async(self) -> bool:
        return any(map(inspect.iscoroutinefunction, self._functions.values()))

    def Predict(self, request: Request, context: Context) -> Any:
        """The outputs: a mapping of names to values (or, in the old convention, a PredictResponse)."""
        function = self._functions[request.signature.name]
        inputs: Mapping[str, Any] = request.inputs
        if self._convention is Convention.MESSAGES:
            from . import messages  # with numpy, which a server that only names this class does without

            inputs = messages.to_messages(request.signature.inputs, inputs)
        outputs = function(**inputs)
        return self._coroutines.run(outputs, context.timeout) if inspect.isawaitable(outputs) else outputs


def _check_batch_size(name: str, size: Any) -> None:
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MOST_REQUESTS:
        raise ModelImportFailed(
            f"{name}.{_BATCH_ATTRIBUTE}: expected a whole number from 0 to {_MOST_REQUESTS}, got {size!r}"
        )


__all__ = ["Context", "InvalidRequest", "ModelOptions", "Request", "RuntimeService"]
