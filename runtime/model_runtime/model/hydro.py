"""`import hydro_serving_grpc` for models whose environment has no package of that name, and the message classes they use.

Models of the old calling convention import Hydrosphere's stubs. Where the real package is installed it is used; where it is
not, a module tree with the same names is made up from the protos of the eras. protobuf is imported only when a model asks.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from types import ModuleType
from typing import Any, Dict, Iterator, Optional, Sequence, Type

PACKAGE = "hydro_serving_grpc"

_RESPONSES = frozenset(
    {"hydrosphere.tensorflow.serving.PredictResponse", "hydrosphere.serving.runtime.PredictResponse"}
)
_TENSORS = frozenset({"hydrosphere.tensorflow.TensorProto", "hydrosphere.serving.contract.Tensor"})
# Era: the module in which its Predict messages live, and their package.
_API = {
    "v2": (f"{PACKAGE}.tf.api.predict_pb2", "hydrosphere.tensorflow.serving"),
    "v3": (f"{PACKAGE}.serving.runtime.api_pb2", "hydrosphere.serving.runtime"),
}


def install() -> None:
    """Makes the names importable, after everything that is really installed. Costs nothing until a model imports them."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def request_class(era: str) -> Type[Any]:
    """PredictRequest of "v2" or "v3", from whatever package the model itself imports."""
    return _api_class(era, "PredictRequest")


def response_class(era: str) -> Type[Any]:
    return _api_class(era, "PredictResponse")


def is_response(value: object) -> bool:
    """Whether a value is a PredictResponse of any era, whoever made its class."""
    return _full_name(value) in _RESPONSES


def is_tensor(value: object) -> bool:
    """Whether a value is a TensorProto or Tensor message of any era, whoever made its class."""
    return _full_name(value) in _TENSORS


def _full_name(value: object) -> str:
    descriptor = getattr(type(value), "DESCRIPTOR", None)
    return "" if descriptor is None else str(getattr(descriptor, "full_name", ""))


def _api_class(era: str, name: str) -> Type[Any]:
    module, package = _API[era]
    try:
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]
    except ImportError:  # the model's package is of another era
        return _protos().message(era, f"{package}.{name}")  # type: ignore[no-any-return]


def _protos() -> Any:
    try:
        importlib.import_module("google.protobuf")
    except ImportError:
        raise ImportError(
            "the model uses Hydrosphere's messages, and its environment has no protobuf: add protobuf to its requirements"
        ) from None
    return importlib.import_module("model_runtime.protos")


# The module tree ----------------------------------------------------------------------------------------------------


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `hydro_serving_grpc` and what is below it, unless a real one was found first."""

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        if fullname.partition(".")[0] != PACKAGE or not self._is_ours(fullname) or fullname not in self._tree():
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=not fullname.endswith("_pb2"))

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(self._tree()[module.__name__])

    def _is_ours(self, fullname: str) -> bool:
        """A real package keeps its gaps: names of two packages in one tree would never fit together."""
        root = sys.modules.get(PACKAGE)
        return fullname == PACKAGE or root is None or isinstance(getattr(root, "__loader__", None), _Finder)

    def _tree(self) -> Dict[str, Dict[str, Any]]:
        """Module to its names, made at the first import."""
        if not hasattr(self, "_made"):
            self._made = _made_tree()
        return self._made


def _made_tree() -> Dict[str, Dict[str, Any]]:
    protos = _protos()
    tree: Dict[str, Dict[str, Any]] = {PACKAGE: {}}
    for era in ("v2", "v3"):
        pool = protos.pool(era)
        for file in protos.files(era):
            if file.name.startswith(f"{PACKAGE}/"):
                _add_module(tree, protos, era, pool.FindFileByName(file.name))
    return tree


def _add_module(tree: Dict[str, Dict[str, Any]], protos: Any, era: str, file: Any) -> None:
    """The `_pb2` module of a file, with the packages above it. v2's packages show their modules' names, v3's show none."""
    names: Dict[str, Any] = {"DESCRIPTOR": file, **dict(_names(protos, era, file))}
    module = file.name[: -len(".proto")].replace("/", ".") + "_pb2"
    tree[module] = names
    package = module.rpartition(".")[0]
    while package:
        tree.setdefault(package, {})
        if era == "v2":
            tree[package].update(names)
        package = package.rpartition(".")[0]


def _names(protos: Any, era: str, file: Any) -> Iterator[Any]:
    from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

    for descriptor in file.message_types_by_name.values():
        yield descriptor.name, protos.message(era, descriptor.full_name)
    for enum in file.enum_types_by_name.values():
        yield enum.name, EnumTypeWrapper(enum)
        for value in enum.values:
            yield value.name, value.number
