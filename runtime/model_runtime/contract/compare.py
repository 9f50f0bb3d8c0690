"""What breaks for the clients of a contract when another takes its place. Pure; knows only contracts.

A change is compatible when every request the old contract accepted is accepted by the new one, and every answer the new one
allows was allowed by the old. Profiles and the order of fields mean nothing on the wire, and neither does the name of a single
signature to requests that name none.
"""

from __future__ import annotations

from typing import Iterator, List, Optional, Tuple

from ..errors import Violation
from .model import Contract, Field, Shape, Signature, shape_text
from .types import DataType


def compare(old: Contract, new: Contract) -> List[Violation]:
    """The breaking changes from `old` to `new`, each with its path; none means compatible."""
    return list(_contract_changes(old, new))


def _contract_changes(old: Contract, new: Contract) -> Iterator[Violation]:
    if len(old.signatures) == len(new.signatures) == 1:  # requests need not name it
        yield from _signature_changes(old.signatures[0], new.signatures[0])
        return
    for signature in old.signatures:
        successor = new.signature(signature.name)
        if successor is None:
            yield Violation(signature.name, "signature removed")
        else:
            yield from _signature_changes(signature, successor)


def _signature_changes(old: Signature, new: Signature) -> Iterator[Violation]:
    path = new.name
    yield from _side_changes(f"{path}.inputs", old.inputs, new.inputs, is_input=True)
    yield from _side_changes(f"{path}.outputs", old.outputs, new.outputs, is_input=False)


def _side_changes(path: str, old: Tuple[Field, ...], new: Tuple[Field, ...], *, is_input: bool) -> Iterator[Violation]:
    new_by_name = {field.name: field for field in new}
    for field in old:
        if field.name not in new_by_name:
            consequence = "requests that send it are refused" if is_input else "clients that read it find nothing"
            yield Violation(f"{path}.{field.name}", f"removed: {consequence}")
        else:
            yield from _field_changes(f"{path}.{field.name}", field, new_by_name[field.name], is_input=is_input)
    if is_input:
        known = {field.name for field in old}
        for field in new:
            if field.name not in known:
                yield Violation(f"{path}.{field.name}", "added: requests without it are refused")


def _field_changes(path: str, old: Field, new: Field, *, is_input: bool) -> Iterator[Violation]:
    outer, inner = (new, old) if is_input else (old, new)  # what `inner` stands for must lie within `outer`
    if old.fields and new.fields:
        yield from _side_changes(path, old.fields, new.fields, is_input=is_input)
    elif outer.dtype not in (inner.dtype, DataType.ANY) or (outer.fields and not inner.fields):
        yield Violation(path, f"type changed from {old.type_text} to {new.type_text}")
    if not _allows(outer.shape, inner.shape):
        yield Violation(path, f"shape changed from {_shape(old.shape)} to {_shape(new.shape)}")


def _allows(outer: Optional[Shape], inner: Optional[Shape]) -> bool:
    """Whether every shape that `inner` stands for is one that `outer` stands for."""
    if outer is None:
        return True
    return inner is not None and len(inner) == len(outer) and all(want in (-1, dim) for want, dim in zip(outer, inner))


def _shape(shape: Optional[Shape]) -> str:
    return shape_text(shape) or "scalar"
