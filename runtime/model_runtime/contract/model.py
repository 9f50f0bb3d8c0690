"""Contract, Signature and Field: the typed promise of a model, as frozen values. No bytes, no YAML, no arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Optional, Tuple

from ..errors import ContractError, Violation
from .types import DataType, Profile

Shape = Tuple[int, ...]  # -1: unknown; (): scalar

DEFAULT_SIGNATURE = "serving_default"  # TensorFlow's name for the signature of a request that names none
MAX_DEPTH = 32  # nested fields; a map tensor costs three of protobuf's hundred levels for each


@dataclass(frozen=True)
class Field:
    """One named tensor of a signature.

    `shape` None promises any shape; `dtype` ANY promises nothing about the type (contracts of 2017 carry none, v3 can say
    so on purpose). A field with `fields` is a map of named tensors and has dtype MAP; MAP without fields is any such map.
    """

    name: str
    dtype: DataType = DataType.ANY
    shape: Optional[Shape] = None
    fields: Tuple[Field, ...] = ()
    profile: Profile = Profile.NONE

    @property
    def type_text(self) -> str:
        """The type and shape in one word: `double[*,64]`, `string`, `int64[...]`, `{name:string,age:int32}[*]`."""
        if self.fields:
            name = "{" + ",".join(f"{field.name}:{field.type_text}" for field in self.fields) + "}"
        else:
            name = self.dtype.label
        return name + shape_text(self.shape)


@dataclass(frozen=True)
class Signature:
    """One callable of a model: the function's name, its inputs and its outputs, in the order they were declared."""

    name: str
    inputs: Tuple[Field, ...]
    outputs: Tuple[Field, ...]

    def __str__(self) -> str:
        """One line: `predict(pixels: double[*,64]) -> digit: int64[*]`."""
        outputs = _fields_text(self.outputs)
        return f"{self.name}({_fields_text(self.inputs)}) -> {outputs if len(self.outputs) == 1 else f'({outputs})'}"


@dataclass(frozen=True)
class Contract:
    """What a model promises. Two eras promise one signature; the first (v0) promises any number of them."""

    signatures: Tuple[Signature, ...]
    model_name: str = ""

    def __post_init__(self) -> None:
        violations = list(_violations(self))
        if violations:
            raise ContractError("the contract makes no sense", violations)

    def __str__(self) -> str:
        return "; ".join(map(str, self.signatures))

    def signature(self, name: str) -> Optional[Signature]:
        """The signature that a request naming `name` means.

        A request that names none, or TensorFlow's default, means the only signature there is or the one of that default's name.
        """
        if name in ("", DEFAULT_SIGNATURE):
            if len(self.signatures) == 1:
                return self.signatures[0]
            name = DEFAULT_SIGNATURE
        return next((signature for signature in self.signatures if signature.name == name), None)

    def signature_in(self, model_name: str) -> str:
        """The name of the signature in which a model's name such as `model/signature` ends; "" where there is none."""
        _, _, last = model_name.rpartition("/")
        return last if "/" in model_name and any(signature.name == last for signature in self.signatures) else ""


def shape_text(shape: Optional[Shape]) -> str:
    """`[*,64]` for (-1, 64), nothing for a scalar, `[...]` for any shape."""
    if shape is None:
        return "[...]"
    return "[" + ",".join("*" if dim == -1 else str(dim) for dim in shape) + "]" if shape else ""


def _fields_text(fields: Tuple[Field, ...]) -> str:
    return ", ".join(f"{field.name}: {field.type_text}" for field in fields)


def _violations(contract: Contract) -> Iterable[Violation]:
    if not contract.signatures:
        yield Violation("contract", "expected at least one signature, got none")
    yield from _name_violations("contract", "signature", [signature.name for signature in contract.signatures])
    for signature in contract.signatures:
        path = signature.name or "contract"
        yield from _field_violations(f"{path}.inputs", signature.inputs, 1)
        yield from _field_violations(f"{path}.outputs", signature.outputs, 1)
        if not signature.outputs:
            yield Violation(f"{path}.outputs", "expected at least one output, got none")


def _field_violations(path: str, fields: Tuple[Field, ...], depth: int) -> Iterable[Violation]:
    if depth > MAX_DEPTH:
        yield Violation(path, f"expected at most {MAX_DEPTH} levels of nested fields, got more")
        return
    yield from _name_violations(path, "field", [field.name for field in fields])
    for field in fields:
        here = f"{path}.{field.name}"
        if any(dim < -1 for dim in field.shape or ()):
            yield Violation(
                f"{here}.shape", f"expected dimensions of -1 (unknown) or more, got {list(field.shape or ())}"
            )
        if field.fields and field.dtype is not DataType.MAP:
            yield Violation(here, f"expected a type or nested fields, got both: {field.dtype.label} and fields")
        if field.dtype in (DataType.RESOURCE, DataType.VARIANT):
            yield Violation(f"{here}.type", f"{field.dtype.label} tensors live inside TensorFlow and cannot be served")
        yield from _field_violations(here, field.fields, depth + 1)


def _name_violations(path: str, kind: str, names: Iterable[str]) -> Iterable[Violation]:
    seen = set()
    for name in names:
        if not name:
            yield Violation(path, f"expected a name for each {kind}, got an empty one")
        elif name in seen:
            yield Violation(path, f"expected different names, got the {kind} {name!r} twice")
        seen.add(name)
