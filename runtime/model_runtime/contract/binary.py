"""contract.protobin: read in all three forms, told apart by structure; written deterministically. No protobuf needed.

v0 and v2 hold a `hydrosphere.contract.ModelContract` (many signatures, or one: the bytes of one are the same), v3 a bare
`hydrosphere.serving.contract.ModelSignature`. Parsing the one as the other can succeed with nonsense, so the rule is
structural: a top-level field 3 (a signature's outputs) means ModelSignature, otherwise ModelContract.
"""

from __future__ import annotations

from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from .. import wire
from ..errors import ContractError
from .model import MAX_DEPTH, Contract, Field, Shape, Signature
from .types import DataType, Profile

MAX_BYTES = 1 << 20  # a ConfigMap's limit; a thousand fields take about 30 kB
ERAS = ("v0", "v2", "v3")

_FIRST_REF_TYPE = 100  # 2017's `*_REF` types: the base type + 100


class _Form(NamedTuple):
    """Where the two messages differ."""

    profile: int  # the number of ModelField.profile
    has_any: bool  # whether DT_ANY exists
    read_shape: Callable[[memoryview], Optional[Shape]]
    shape_bytes: Callable[[Shape], bytes]


def read(data: bytes) -> Contract:
    """The contract in `data`, whichever era wrote it. Raises ContractError, and nothing else, for any other bytes."""
    if not data:
        raise ContractError("contract.protobin is empty")
    if len(data) > MAX_BYTES:
        raise ContractError(f"contract.protobin has {len(data)} bytes, expected at most {MAX_BYTES}")
    try:
        message = memoryview(data)
        return _read_signature_form(message) if is_signature(data) else _read_contract_form(message)
    except (wire.WireError, UnicodeDecodeError) as error:
        raise ContractError(f"contract.protobin is no ModelContract and no ModelSignature: {error}") from None


def is_signature(data: bytes) -> bool:
    """Whether the bytes hold v3's bare ModelSignature. Raises wire.WireError."""
    return any(number == 3 for number, *_ in wire.fields(data))


def write(contract: Contract, era: str = "v2") -> bytes:
    """The bytes that the managers of `era` ("v0", "v2" or "v3") write: same contract, same bytes, always."""
    if era not in ERAS:
        raise ContractError(f"expected an era of {', '.join(ERAS)}, got {era!r}")
    if era != "v0" and len(contract.signatures) > 1:
        names = ", ".join(signature.name for signature in contract.signatures)
        raise ContractError(
            f"a contract of era {era} holds one signature, got {len(contract.signatures)}: {names} (v0 holds many)"
        )
    if era == "v3":
        return _signature_bytes(contract.signatures[0], _MODEL_SIGNATURE)
    name = wire.length_field(1, contract.model_name.encode()) if contract.model_name else b""
    signatures = (_signature_bytes(signature, _MODEL_CONTRACT) for signature in contract.signatures)
    return name + b"".join(wire.length_field(2, signature) for signature in signatures)


# Reading ------------------------------------------------------------------------------------------------------------


def _payloads(message: memoryview) -> Iterator[Tuple[int, memoryview]]:
    """The length-delimited fields of a message; a field that came with another wire type is unknown, as in protobuf."""
    return ((number, message[start:end]) for number, kind, start, end in wire.fields(message) if kind == wire.LENGTH)


def _text(payload: memoryview) -> str:
    return bytes(payload).decode("utf-8")


def _read_contract_form(message: memoryview) -> Contract:
    name, signatures = "", []
    for number, payload in _payloads(message):
        if number == 1:
            name = _text(payload)
        elif number == 2:
            signatures.append(_read_signature(payload, _MODEL_CONTRACT))
    return Contract(tuple(signatures), name)


def _read_signature_form(message: memoryview) -> Contract:
    return Contract((_read_signature(message, _MODEL_SIGNATURE),))


def _read_signature(message: memoryview, form: _Form) -> Signature:
    name = ""
    sides: Dict[int, List[Field]] = {2: [], 3: []}
    for number, payload in _payloads(message):
        if number == 1:
            name = _text(payload)
        elif number in sides:
            sides[number].append(_read_field(payload, form, 1))
    return Signature(name, tuple(sides[2]), tuple(sides[3]))


def _read_field(message: memoryview, form: _Form, depth: int) -> Field:
    if depth > MAX_DEPTH:
        raise wire.WireError(f"more than {MAX_DEPTH} levels of nested fields")
    name, dtype, profile = "", 0, 0
    shape: Optional[Shape] = None
    nested: Optional[Tuple[Field, ...]] = None
    for number, kind, value, end in wire.fields(message):
        if kind == wire.LENGTH and number == 1:
            name = _text(message[value:end])
        elif kind == wire.LENGTH and number == 2:
            shape = form.read_shape(message[value:end])
        elif kind == wire.LENGTH and number == 3:
            dtype, shape, nested = _read_third(message[value:end], form, depth, shape)
        elif kind == wire.VARINT and number == 4:
            dtype, nested = wire.int32(value), None  # a oneof: the last one wins
        elif kind == wire.VARINT and number == form.profile:
            profile = wire.int32(value)
    if nested is not None:
        return Field(name, DataType.MAP, shape, nested, _profile(name, profile))
    return Field(name, _data_type(name, dtype), shape, (), _profile(name, profile))


def _read_third(
    message: memoryview, form: _Form, depth: int, shape: Optional[Shape]
) -> Tuple[int, Optional[Shape], Optional[Tuple[Field, ...]]]:
    """Field 3 of a ModelField: nested fields since 0.1.0, before it a TensorInfo {2: dtype, 3: shape}. Real files hold both."""
    items = list(wire.fields(message))
    dtype = next((wire.int32(value) for number, kind, value, _ in items if number == 2 and kind == wire.VARINT), 0)
    old_shape = next(
        (message[start:end] for number, kind, start, end in items if number == 3 and kind == wire.LENGTH), None
    )
    if dtype or old_shape is not None:
        return dtype, shape if old_shape is None else form.read_shape(old_shape), None
    nested = (payload for number, payload in _payloads(message) if number == 1)
    return 0, shape, tuple(_read_field(payload, form, depth + 1) for payload in nested)


def _read_nested_shape(message: memoryview) -> Optional[Shape]:
    """TensorShapeProto {2: repeated Dim {1: size}, 3: unknown_rank}; anything else in it is a message of before 0.1.0."""
    dims = []
    for number, kind, value, end in wire.fields(message):
        if number == 2 and kind == wire.LENGTH:
            sizes = [
                size
                for field, wire_type, size, _ in wire.fields(message[value:end])
                if (field, wire_type) == (1, wire.VARINT)
            ]
            dims.append(wire.int64(sizes[-1]) if sizes else 0)
        elif number == 1 or (number == 3 and kind == wire.VARINT and value):
            return None
    return tuple(dims)


def _read_packed_shape(message: memoryview) -> Optional[Shape]:
    """TensorShape {1: repeated int64 dims}, packed or not."""
    dims = []
    for number, kind, value, end in wire.fields(message):
        if number == 1 and kind == wire.VARINT:
            dims.append(wire.int64(value))
        elif number == 1 and kind == wire.LENGTH:
            while value < end:
                dim, value = wire.read_varint(message, value, end)
                dims.append(wire.int64(dim))
    return tuple(dims)


def _data_type(name: str, number: int) -> DataType:
    try:
        return DataType(number - _FIRST_REF_TYPE if number > _FIRST_REF_TYPE else number or DataType.ANY)
    except ValueError:
        raise ContractError(f"field {name!r}: no data type has the number {number}") from None


def _profile(name: str, number: int) -> Profile:
    try:
        return Profile(number)
    except ValueError:
        raise ContractError(f"field {name!r}: no profile has the number {number}") from None


# Writing ------------------------------------------------------------------------------------------------------------


def _signature_bytes(signature: Signature, form: _Form) -> bytes:
    def field_bytes(field: Field) -> bytes:
        parts = [wire.length_field(1, field.name.encode())]
        if field.shape is not None:
            parts.append(wire.length_field(2, form.shape_bytes(field.shape)))
        if field.fields:
            nested = b"".join(wire.length_field(1, field_bytes(inner)) for inner in field.fields)
            parts.append(wire.length_field(3, nested))
        elif field.dtype is not DataType.ANY or form.has_any:
            parts.append(wire.varint_field(4, field.dtype))
        if field.profile is not Profile.NONE:
            parts.append(wire.varint_field(form.profile, field.profile))
        return b"".join(parts)

    name = wire.length_field(1, signature.name.encode())
    inputs = b"".join(wire.length_field(2, field_bytes(field)) for field in signature.inputs)
    return name + inputs + b"".join(wire.length_field(3, field_bytes(field)) for field in signature.outputs)


def _nested_shape(shape: Shape) -> bytes:
    return b"".join(wire.length_field(2, wire.varint_field(1, dim) if dim else b"") for dim in shape)


def _packed_shape(shape: Shape) -> bytes:
    return wire.length_field(1, b"".join(map(wire.varint, shape))) if shape else b""


_MODEL_CONTRACT = _Form(10, False, _read_nested_shape, _nested_shape)
_MODEL_SIGNATURE = _Form(5, True, _read_packed_shape, _packed_shape)
