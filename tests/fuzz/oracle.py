"""Protobuf's own reading of Predict messages, and the comparison of ours with it. Shared by the fuzz targets and the tests."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from model_runtime import tensors, wire

_TYPES = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _TYPES.TYPE_STRING,
    "bytes": _TYPES.TYPE_BYTES,
    "int32": _TYPES.TYPE_INT32,
    "int64": _TYPES.TYPE_INT64,
    "uint32": _TYPES.TYPE_UINT32,
    "uint64": _TYPES.TYPE_UINT64,
    "float": _TYPES.TYPE_FLOAT,
    "double": _TYPES.TYPE_DOUBLE,
    "bool": _TYPES.TYPE_BOOL,
}
_VALUES = """float_val=5 *float; double_val=6 *double; int_val=7 *int32; string_val=8 *bytes; scomplex_val=9 *float;
    int64_val=10 *int64; bool_val=11 *bool; dcomplex_val=12 *double; half_val=13 *int32; uint32_val=16 *uint32;
    uint64_val=17 *uint64; map_val=27 *.MapTensorData"""
# The messages of hydrosphere.md §3.4 and §3.5. `*` is repeated, a leading dot a message of the same file.
_TENSORFLOW = {
    "Dim": "size=1 int64; name=2 string",
    "TensorShapeProto": "dim=2 *.Dim; unknown_rank=3 bool",
    "Variant": "type_name=1 string; metadata=2 bytes; tensors=3 *.TensorProto",
    "MapTensorData": "subtensors=1 {.TensorProto}",
    "TensorProto": f"dtype=1 enum; tensor_shape=2 .TensorShapeProto; version_number=3 int32; tensor_content=4 bytes; {_VALUES};"
    "variant_val=15 *.Variant",
    "Int64Value": "value=1 int64",
    "ModelSpec": "name=1 string; version=2 .Int64Value; signature_name=3 string",
    "PredictRequest": "model_spec=1 .ModelSpec; inputs=2 {.TensorProto}",
    "PredictResponse": "outputs=1 {.TensorProto}",
}
_V3 = {
    "TensorShape": "dims=1 *int64",
    "MapTensorData": "subtensors=1 {.Tensor}",
    "Tensor": f"dtype=1 enum; tensor_shape=2 .TensorShape; binary_val=4 bytes; {_VALUES}",
    "PredictRequest": "inputs=1 {.Tensor}",
    "PredictResponse": "outputs=1 {.Tensor}",
}


@lru_cache
def messages(era: str) -> dict[str, Any]:
    """Every message class of an era, by name, from a pool of its own."""
    package = f"oracle.era{era.replace('.', '_')}"
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    data_type = file.enum_type.add(name="DataType")
    data_type.value.add(name="DT_INVALID", number=0)
    for name, text in (_V3 if era == "v3" else _TENSORFLOW).items():
        message = file.message_type.add(name=name)
        for field in text.split(";"):
            _add_field(package, message, field.strip())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {m.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{m.name}")) for m in file.message_type}


def _add_field(package: str, message: Any, text: str) -> None:
    declared, kind = text.split(" ", 1)
    name, number = declared.split("=")
    field = message.field.add(name=name, number=int(number), label=_TYPES.LABEL_OPTIONAL)
    if kind.startswith("{"):
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _add_field(package, entry, "key=1 string")
        _add_field(package, entry, f"value=2 {kind[1:-1]}")
        field.label, field.type = _TYPES.LABEL_REPEATED, _TYPES.TYPE_MESSAGE
        field.type_name = f".{package}.{message.name}.{entry.name}"
        return
    if kind.startswith("*"):
        field.label, kind = _TYPES.LABEL_REPEATED, kind[1:]
    if kind == "enum":
        field.type, field.type_name = _TYPES.TYPE_ENUM, f".{package}.DataType"
    elif kind.startswith("."):
        field.type, field.type_name = _TYPES.TYPE_MESSAGE, f".{package}{kind}"
    else:
        field.type = _SCALARS[kind]


# Readings -----------------------------------------------------------------------------------------------------------

_INTS = {3: "i4", 4: "u1", 5: "i2", 6: "i1", 11: "i1", 12: "u1", 13: "i4", 15: "i2", 16: "u2", 17: "u2"}
_OWN = {1: "float_val", 2: "double_val", 8: "scomplex_val", 9: "int64_val", 10: "bool_val", 18: "dcomplex_val", 23: "uint64_val"}


def reading(message: Any) -> tuple[Any, ...]:
    """(dtype, shape, values) as protobuf's objects say; values None where no values of the type can be read."""
    return message.dtype, _shape(message), _values(message)


def _shape(message: Any) -> list[int] | None:
    shape = message.tensor_shape
    if not message.HasField("tensor_shape") or getattr(shape, "unknown_rank", False):
        return None
    return list(shape.dims if hasattr(shape, "dims") else [dim.size for dim in shape.dim])


def _values(message: Any) -> list[Any] | None:
    content = message.binary_val if hasattr(message, "binary_val") else message.tensor_content
    typed = _typed(message)
    if typed is None or not content:
        empty_elsewhere = typed == [] and any(field.name.endswith("_val") for field, _ in message.ListFields())
        return None if empty_elsewhere and not _only_variants(message) else typed
    return None if typed or message.dtype in (7, 27) else _from_content(message.dtype, content)


def _only_variants(message: Any) -> bool:
    return {field.name for field, _ in message.ListFields() if field.name.endswith("_val")} <= {"variant_val", "binary_val"}


def _typed(message: Any) -> list[Any] | None:
    dtype = message.dtype
    if dtype == 7:
        return list(message.string_val)
    if dtype == 27:
        return [entries(nested.subtensors) for nested in message.map_val]
    if dtype in (8, 18):
        parts = list(getattr(message, _OWN[dtype]))
        return None if len(parts) % 2 else [complex(*parts[at : at + 2]) for at in range(0, len(parts), 2)]
    if dtype in _OWN:
        return list(getattr(message, _OWN[dtype]))
    if dtype in (14, 19):
        patterns = list(message.half_val)
        return _halves(dtype, patterns) if all(0 <= pattern <= 0xFFFF for pattern in patterns) else None
    if dtype == 22:
        values = list(message.uint32_val or message.int_val)
        return values if all(value >= 0 for value in values) else None
    if dtype in _INTS:
        values = list(message.int_val or (message.uint32_val if dtype == 17 else ()))
        limits = np.iinfo(_INTS[dtype])
        return values if all(limits.min <= value <= limits.max for value in values) else None
    return None


def _halves(dtype: int, patterns: Any) -> list[float]:
    if dtype == 19:
        return np.array(patterns, "<u2").view("<f2").tolist()
    return (np.array(patterns, "<u4") << 16).astype("<u4").view("<f4").tolist()


def _from_content(dtype: int, content: bytes) -> list[Any] | None:
    numpy = {1: "<f4", 2: "<f8", 8: "<c8", 9: "<i8", 10: "u1", 14: "<u2", 18: "<c16", 19: "<f2", 22: "<u4", 23: "<u8"}
    wanted = np.dtype(numpy.get(dtype) or _INTS[dtype])
    if len(content) % wanted.itemsize:
        return None
    values = np.frombuffer(content, wanted)
    if dtype == 14:
        return _halves(14, values)
    return (values != 0 if dtype == 10 else values).tolist()


def entries(mapping: Any) -> dict[str, Any]:
    return {name: reading(mapping[name]) for name in mapping}


def ours(inputs: dict[str, tensors.Tensor]) -> dict[str, Any]:
    """Our tensors in the same words as `entries`."""
    return {name: (int(t.dtype), None if t.shape is None else list(t.shape), _our_values(t)) for name, t in inputs.items()}


def _our_values(tensor: tensors.Tensor) -> list[Any] | None:
    if tensor.problem:
        return None
    values = tensor.values.tolist()
    return [ours(nested) for nested in values] if tensor.dtype == 27 else values


def _known(read: dict[str, Any]) -> dict[str, Any]:
    """Ours keeps no unknown type's number, and only as many dims as tell that they are too many."""
    types = {*range(20), *range(20, 25), 27}
    return {
        name: (
            dtype if dtype in types else 0,
            shape[:33] if shape else shape,
            [_known(value) if isinstance(value, dict) else value for value in values] if values else values,
        )
        for name, (dtype, shape, values) in read.items()
    }


def request(era: tensors.Era, data: bytes) -> tensors.Request | None:
    """Both readers on the same bytes as a PredictRequest: they must agree. Ours, or None if both refused."""
    message = messages(era.name)["PredictRequest"]()
    theirs = _accepts(lambda: message.ParseFromString(data))
    try:
        mine = tensors.decode_request(era, data)
    except wire.WireError as error:
        assert not theirs, f"we refuse what protobuf accepts: {error}"
        return None
    assert theirs, f"we accept what protobuf refuses: {mine}"
    _equal(ours(mine.inputs), _known(entries(message.inputs)))
    if era.has_model_spec:
        spec = message.model_spec
        version = spec.version.value if spec.HasField("version") else None
        _equal((mine.signature_name, mine.model_name, mine.model_version), (spec.signature_name, spec.name, version))
    return mine


def response(era: tensors.Era, data: bytes) -> bool:
    """The same as a PredictResponse."""
    message = messages(era.name)["PredictResponse"]()
    theirs = _accepts(lambda: message.ParseFromString(data))
    try:
        mine = tensors.decode_response(era, data)
    except wire.WireError as error:
        assert not theirs, f"we refuse what protobuf accepts: {error}"
        return False
    assert theirs, f"we accept what protobuf refuses: {mine}"
    _equal(ours(mine), _known(entries(message.outputs)))
    return True


def round_trip(era: tensors.Era, mine: tensors.Request) -> None:
    """What we read, written by us, is read by protobuf as the same."""
    if any(len(t.shape or ()) > 32 for t in mine.inputs.values()):
        return
    try:
        written = tensors.encode_request(era, mine)
    except tensors.TensorError:
        assert any(map(_unreadable, mine.inputs.values()))
        return
    message = messages(era.name)["PredictRequest"].FromString(written)
    _equal(ours(mine.inputs), _known(entries(message.inputs)))
    assert message.SerializeToString(deterministic=True) == written or len(mine.inputs) > 1 or _has_maps(mine)


def _unreadable(tensor: tensors.Tensor) -> bool:
    return bool(tensor.problem) or (tensor.dtype == 27 and any(_unreadable(t) for m in tensor.values for t in m.values()))


def _has_maps(request: tensors.Request) -> bool:
    return any(tensor.dtype == 27 for tensor in request.inputs.values())


def _accepts(parse: Any) -> bool:
    try:
        parse()
    except DecodeError:
        return False
    return True


def _equal(mine: Any, theirs: Any) -> None:
    if mine != theirs:  # a NaN is unequal to itself, and prints alike
        mine, theirs = repr(_sorted(mine)), repr(_sorted(theirs))
        assert mine == theirs, f"\n    ours {mine[:1500]}\nprotobuf {theirs[:1500]}"


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((name, _sorted(inner)) for name, inner in value.items())
    return type(value)(map(_sorted, value)) if isinstance(value, (list, tuple)) else value
