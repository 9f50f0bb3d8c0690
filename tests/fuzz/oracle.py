"""Protobuf's own reading of Predict messages, and the comparison of ours with it. Shared by the fuzz targets and the tests."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from model_runtime import protos, tensors, wire

_PACKAGES = {
    "0.0.5": "hydrosphere.tensorflow.serving",
    "v2": "hydrosphere.tensorflow.serving",
    "v3": "hydrosphere.serving.runtime",
}


def message(era: tensors.Era, name: str) -> Any:
    """The class of PredictRequest or PredictResponse."""
    pool = "v0.0.5" if era.name == "0.0.5" else era.name
    if (era.name, name) == ("v2", "PredictRequest"):
        pool = "served"  # v2's, as TensorFlow Serving extends it
    return protos.message(pool, f"{_PACKAGES[era.name]}.{name}")


# Readings -----------------------------------------------------------------------------------------------------------

_INTS = {3: "i4", 4: "u1", 5: "i2", 6: "i1", 11: "i1", 12: "u1", 13: "i4", 15: "i2", 16: "u2", 17: "u2"}
_OWN = {
    1: "float_val",
    2: "double_val",
    8: "scomplex_val",
    9: "int64_val",
    10: "bool_val",
    18: "dcomplex_val",
    23: "uint64_val",
}


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
    return {field.name for field, _ in message.ListFields() if field.name.endswith("_val")} <= {
        "variant_val",
        "binary_val",
    }


def _typed(message: Any) -> list[Any] | None:
    dtype = message.dtype
    if dtype == 7:
        return list(message.string_val)
    if dtype == 27:
        if hasattr(message.map_val, "keys"):  # 0.0.5's plain map
            return [entries(message.map_val)] if message.map_val else []
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
    return {
        name: (int(t.dtype), None if t.shape is None else list(t.shape), _our_values(t)) for name, t in inputs.items()
    }


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
    parsed = message(era, "PredictRequest")()
    mine = _agreed(tensors.decode_request, era, parsed, data)
    if mine is None:
        return None
    _equal(ours(mine.inputs), _known(entries(parsed.inputs)))
    if era.model_spec:
        spec = parsed.model_spec
        version = spec.version.value if hasattr(spec, "version") and spec.HasField("version") else None
        theirs = (spec.signature_name, getattr(spec, "name", ""), version)
        _equal((mine.signature_name, mine.model_name, mine.model_version), theirs)
    if era.is_tensorflows:
        _equal(list(mine.outputs), list(dict.fromkeys(parsed.output_filter)))
    return mine  # type: ignore[no-any-return]


def response(era: tensors.Era, data: bytes) -> dict[str, tensors.Tensor] | None:
    """The same as a PredictResponse."""
    parsed = message(era, "PredictResponse")()
    mine = _agreed(tensors.decode_response, era, parsed, data)
    if mine is not None:
        _equal(ours(mine), _known(entries(parsed.outputs)))
    return mine  # type: ignore[no-any-return]


def _agreed(read: Callable[[tensors.Era, bytes], Any], era: tensors.Era, parsed: Any, data: bytes) -> Any:
    """What we read if both accept, None if both refuse."""
    theirs, refusal = True, None
    mine = None
    try:
        parsed.ParseFromString(data)
    except DecodeError:
        theirs = False
    try:
        mine = read(era, data)
    except wire.TooMany:  # a limit of ours: protobuf has none
        return None
    except wire.WireError as error:
        refusal = error
    assert theirs or refusal, f"we accept what protobuf refuses: {mine}"
    assert not (theirs and refusal), f"we refuse what protobuf accepts: {refusal}"
    return mine


def round_trip(era: tensors.Era, mine: tensors.Request) -> None:
    """What we read, written by us, is read by protobuf as the same."""
    if any(len(t.shape or ()) > 32 for t in mine.inputs.values()):
        return
    try:
        written = tensors.encode_request(era, mine)
    except tensors.TensorError:
        assert any(map(_unreadable, mine.inputs.values()))
        return
    parsed = message(era, "PredictRequest").FromString(written)
    _equal(ours(mine.inputs), _known(entries(parsed.inputs)))
    assert parsed.SerializeToString(deterministic=True) == written or len(mine.inputs) > 1 or _has_maps(mine)


def _unreadable(tensor: tensors.Tensor) -> bool:
    return bool(tensor.problem) or (
        tensor.dtype == 27 and any(_unreadable(t) for m in tensor.values for t in m.values())
    )


def _has_maps(request: tensors.Request) -> bool:
    return any(tensor.dtype == 27 for tensor in request.inputs.values())


def completed(message: Any) -> list[Any] | None:
    """All values of a tensor message by TensorFlow's rule (`tf.make_ndarray`); None where it has none to give."""
    dtype, shape, values = reading(message)
    if (
        shape is None or values is None or min(shape, default=0) < 0 or dtype == 27 or message.tensor_content
    ):  # for shapes that are small
        return None
    missing = math.prod(shape) - len(values)
    zero = {7: b"", 10: False, **dict.fromkeys((1, 2, 14, 19), 0.0), 8: 0j, 18: 0j}.get(dtype, 0)
    return None if missing < 0 else values + [values[-1] if values else zero] * missing


def _equal(mine: Any, theirs: Any) -> None:
    if mine != theirs:  # a NaN is unequal to itself, and prints alike
        mine, theirs = repr(_sorted(mine)), repr(_sorted(theirs))
        assert mine == theirs, f"\n    ours {mine[:1500]}\nprotobuf {theirs[:1500]}"


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((name, _sorted(inner)) for name, inner in value.items())
    return type(value)(map(_sorted, value)) if isinstance(value, (list, tuple)) else value
