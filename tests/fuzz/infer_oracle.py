"""Protobuf's own reading of the Open Inference Protocol's messages, and the comparison of ours with it."""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from model_runtime import protos, wire
from model_runtime.protocols import DATATYPES
from model_runtime.tensors import TensorError, open_inference
from model_runtime.tensors.open_inference import InferRequest

# datatype: numpy's name for it, and the field of `contents` that carries it
KINDS = {
    "BOOL": ("?", "bool_contents"),
    "UINT8": ("u1", "uint_contents"),
    "UINT16": ("<u2", "uint_contents"),
    "UINT32": ("<u4", "uint_contents"),
    "UINT64": ("<u8", "uint64_contents"),
    "INT8": ("i1", "int_contents"),
    "INT16": ("<i2", "int_contents"),
    "INT32": ("<i4", "int_contents"),
    "INT64": ("<i8", "int64_contents"),
    "FP16": ("<f2", ""),
    "BF16": ("<u2", ""),
    "FP32": ("<f4", "fp32_contents"),
    "FP64": ("<f8", "fp64_contents"),
    "BYTES": ("", "bytes_contents"),
}


def message(name: str) -> Any:
    """The class of ModelInferRequest, say."""
    return protos.message("open_inference", f"inference.{name}")


def request(data: bytes) -> InferRequest | None:
    """Both readers on the same bytes as a ModelInferRequest: they must agree. Ours, or None where there is none."""
    parsed = message("ModelInferRequest")()
    mine = _agreed(open_inference.decode_request, parsed, "input", data)
    if mine is not None:
        texts = mine.model_name, mine.model_version, mine.id, mine.outputs
        assert texts == (
            parsed.model_name,
            parsed.model_version,
            parsed.id,
            tuple(dict.fromkeys(each.name for each in parsed.outputs)),
        )
        assert mine.raw == bool(parsed.raw_input_contents)
        _compare(mine.inputs, parsed.inputs, parsed.raw_input_contents)
    return mine  # type: ignore[no-any-return]


def response(data: bytes) -> None:
    """The same as a ModelInferResponse."""
    parsed = message("ModelInferResponse")()
    mine = _agreed(open_inference.decode_response, parsed, "output", data)
    if mine is not None:
        _compare(mine, parsed.outputs, parsed.raw_output_contents)


def round_trip(mine: InferRequest) -> None:
    """What we read, written by us, is read by protobuf as the same."""
    if any(len(tensor.shape or ()) > 32 for tensor in mine.inputs.values()):
        return
    try:
        written = open_inference.encode_request(mine)
    except TensorError:
        assert any(tensor.problem for tensor in mine.inputs.values())
        return
    parsed = message("ModelInferRequest").FromString(written)
    _compare(mine.inputs, parsed.inputs, parsed.raw_input_contents)
    assert parsed.parameters["signature_name"].string_param == mine.signature_name
    assert (parsed.model_name, parsed.model_version, parsed.id) == (mine.model_name, mine.model_version, mine.id)


def _agreed(read: Any, parsed: Any, what: str, data: bytes) -> Any:
    """What we read if both accept, None if we refuse with reason."""
    try:
        parsed.ParseFromString(data)
    except DecodeError:
        try:
            mine = read(data)
        except (wire.WireError, TensorError):
            return None
        raise AssertionError(f"we accept what protobuf refuses: {mine}") from None
    listed, sent = getattr(parsed, f"{what}s"), len(getattr(parsed, f"raw_{what}_contents"))
    names = [each.name for each in listed]
    makes_sense = (
        len(set(names)) == len(names) and all(each.datatype in KINDS for each in listed) and sent in (0, len(names))
    )
    try:
        mine = read(data)
    except wire.TooMany:  # a limit of ours: protobuf has none
        return None
    except TensorError as error:
        assert not makes_sense, error
        return None
    assert makes_sense, f"we accept what makes no sense: {parsed}"
    return mine


def _compare(mine: Any, listed: Any, raws: Any) -> None:
    for at, theirs in enumerate(listed):
        ours = mine[theirs.name]
        wanted = _values(theirs, raws[at] if raws else None)
        assert DATATYPES[ours.dtype] == theirs.datatype
        assert list(ours.shape) == list(theirs.shape)[:33]
        assert repr(None if ours.problem else ours.values.tolist()) == repr(wanted), theirs  # by their text: NaN


def _values(theirs: Any, raw: bytes | None) -> list[Any] | None:
    numpy, field = KINDS[theirs.datatype]
    came = {each.name for each, _ in theirs.contents.ListFields()}
    if raw is None:
        if came and field not in came:
            return None
        values = list(getattr(theirs.contents, field)) if field else []
        if theirs.datatype.startswith(("INT", "UINT")) and values:
            limits = np.iinfo(numpy)
            return values if all(limits.min <= value <= limits.max for value in values) else None
        return values
    if came:
        return None
    if theirs.datatype == "BYTES":
        return _strings(raw)
    if len(raw) % np.dtype(numpy).itemsize:
        return None
    if theirs.datatype == "BF16":
        return (np.frombuffer(raw, numpy).astype("<u4") << 16).view("<f4").tolist()
    return (np.frombuffer(raw, "u1") != 0 if numpy == "?" else np.frombuffer(raw, numpy)).tolist()


def _strings(raw: bytes) -> list[bytes] | None:
    found = []
    while raw:
        size = int.from_bytes(raw[:4], "little")
        if len(raw) < 4 + size:
            return None
        found.append(raw[4 : 4 + size])
        raw = raw[4 + size :]
    return found
