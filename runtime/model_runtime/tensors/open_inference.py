"""The Open Inference Protocol (KServe's v2): ModelInfer's messages to tensors and back, over numpy, without protobuf.

Its tensors have a name, a datatype's name and a shape; their values stand in typed `contents` or, for all tensors of a message
alike, in `raw_*_contents`, little-endian and one behind the other (a BYTES value has its length before it, in four bytes).
https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

from functools import lru_cache
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from .. import wire
from ..contract.types import DataType
from ..errors import Violation
from ..protocols import DATATYPES
from . import numerics, varints
from .decode import MAX_INPUTS, ROW_PARTS
from .encode import Parts, add_strings, packed, shaped
from .payloads import Payloads
from .tensor import EMPTY, MAX_RANK, NUMPY, Shape, Tensor, TensorError, ValueField, objects, ranked

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TYPES = {name: dtype for dtype, name in DATATYPES.items()}
_CONTENTS: Dict[int, ValueField] = {  # of InferTensorContents; 8 is bytes_contents
    1: ValueField("bool_contents", wire.VARINT, 0, np.dtype("?")),
    2: ValueField("int_contents", wire.VARINT, 0, np.dtype("<i4")),
    3: ValueField("int64_contents", wire.VARINT, 0, np.dtype("<i8")),
    4: ValueField("uint_contents", wire.VARINT, 0, np.dtype("<u4")),
    5: ValueField("uint64_contents", wire.VARINT, 0, np.dtype("<u8")),
    6: ValueField("fp32_contents", wire.FIXED32, 4, np.dtype("<f4")),
    7: ValueField("fp64_contents", wire.FIXED64, 8, np.dtype("<f8")),
}
_BYTES_CONTENTS = 8
_CARRIERS: Dict[DataType, int] = {  # the 16-bit floats travel raw only
    DataType.BOOL: 1,
    DataType.INT8: 2,
    DataType.INT16: 2,
    DataType.INT32: 2,
    DataType.INT64: 3,
    DataType.UINT8: 4,
    DataType.UINT16: 4,
    DataType.UINT32: 4,
    DataType.UINT64: 5,
    DataType.FLOAT: 6,
    DataType.DOUBLE: 7,
    DataType.STRING: _BYTES_CONTENTS,
}
_INT64 = np.dtype("<i8")
_LENGTH_BYTES = 4
_TENSOR_PARTS = 8  # what reading one costs, in fields
_SIGNATURE = "signature_name"  # the parameter that names a signature, where a contract has several
# Parameters that change no answer: what MLServer's codecs and the protocol's extension for binary data over HTTP add.
_REQUEST_PARAMETERS = (_SIGNATURE, "content_type", "priority", "binary_data_output")
_TENSOR_PARAMETERS = ("content_type", "binary_data", "binary_data_size")
_MOST_REFUSED = 10  # parameters of a request that an error names

_Span = Tuple[int, int]


class InferRequest(NamedTuple):
    """A ModelInferRequest. Its answer repeats name, version and id."""

    inputs: Dict[str, Tensor]
    signature_name: str = ""
    model_name: str = ""
    model_version: str = ""
    id: str = ""
    outputs: Tuple[str, ...] = ()  # those that are asked for; none: all
    raw: bool = True  # values in raw_input_contents, and the answer's in raw_output_contents
    refused: Tuple[Violation, ...] = ()  # parameters that would change the answer, and are not known here


class _Parameter(NamedTuple):
    """A name, and the text where the value is one."""

    name: str
    text: Optional[str]


_OTHER_CHOICES = {
    (1, wire.VARINT),
    (2, wire.VARINT),
    (4, wire.FIXED64),
    (5, wire.VARINT),
}  # bool, int64, double, uint64


# Decoding -----------------------------------------------------------------------------------------------------------


def decode_request(data: wire.Buffer) -> InferRequest:
    """The ModelInferRequest in `data`; numeric inputs may be views on it.

    Raises WireError where protobuf would refuse the bytes, TensorError where its tensors make no sense.
    """
    budget = wire.request_budget()
    drafts: List[_Draft] = []
    raws: List[_Span] = []
    outputs: List[str] = []
    texts = {1: "", 2: "", 3: ""}
    parameters = _Parameters()
    for number, kind, value, end in wire.fields(data, budget=budget):
        if kind != wire.LENGTH:
            continue
        if number == 5:
            if len(drafts) >= MAX_INPUTS:
                raise wire.TooMany(f"expected at most {MAX_INPUTS} inputs, got more")
            drafts.append(_Draft(data, value, end, budget))
        elif number == 7:
            if len(raws) >= MAX_INPUTS:
                raise wire.TooMany(f"expected at most {MAX_INPUTS} raw contents, got more")
            raws.append((value, end))
        elif number == 6:
            outputs.append(_read_output(data, value, end, parameters, budget))
        elif number == 4:
            parameters.add("", _read_parameter(data, value, end, 1, budget), _REQUEST_PARAMETERS)
        elif number in texts:
            texts[number] = wire.read_text(data, value, end)
    inputs = _tensors(drafts, raws, "input")
    for draft in drafts:
        for parameter in draft.parameters:
            parameters.add(f"inputs.{draft.name}.", parameter, _TENSOR_PARAMETERS)
    asked = tuple(dict.fromkeys(outputs))
    refused = tuple(parameters.refused)
    return InferRequest(inputs, parameters.signature, texts[1], texts[2], texts[3], asked, bool(raws), refused)


def decode_response(data: wire.Buffer) -> Dict[str, Tensor]:
    """The outputs of the ModelInferResponse in `data`. Raises WireError, TensorError."""
    drafts: List[_Draft] = []
    raws: List[_Span] = []
    for number, kind, value, end in wire.fields(data):
        if kind != wire.LENGTH:
            continue
        if number == 5:
            drafts.append(_Draft(data, value, end, wire.UNBOUNDED))
        elif number == 6:
            raws.append((value, end))
        elif number == 4:
            _read_parameter(data, value, end, 1, wire.UNBOUNDED)
        elif number in (1, 2, 3):
            wire.read_text(data, value, end)
    return _tensors(drafts, raws, "output")


def _tensors(drafts: List[_Draft], raws: List[_Span], what: str) -> Dict[str, Tensor]:
    if raws and len(raws) != len(drafts):
        raise TensorError(f"expected raw contents for each {what} or for none, got {len(raws)} for {len(drafts)}")
    tensors: Dict[str, Tensor] = {}
    for draft, raw in zip_longest(drafts, raws):
        if draft.name in tensors:
            raise TensorError(f"expected each {what} once, got {draft.name!r} twice")
        tensors[draft.name] = draft.tensor(raw)
    return tensors


class _Parameters:
    """The parameters of a request: which signature they name, and those that are refused."""

    def __init__(self) -> None:
        self.signature = ""
        self.refused: List[Violation] = []

    def add(self, path: str, parameter: _Parameter, known: Tuple[str, ...]) -> None:
        if parameter.name == _SIGNATURE and _SIGNATURE in known:
            self.signature = parameter.text or ""
            if parameter.text is None:
                self._refuse(f"parameters.{_SIGNATURE}", "expected a string")
        elif parameter.name not in known:
            self._refuse(f"{path}parameters.{parameter.name}", f"not supported, expected one of {', '.join(known)}")

    def _refuse(self, path: str, why: str) -> None:
        if len(self.refused) < _MOST_REFUSED:
            self.refused.append(Violation(path, why))


def _read_output(data: wire.Buffer, start: int, end: int, parameters: _Parameters, budget: wire.Budget) -> str:
    """InferRequestedOutputTensor {1: name, 2: parameters}."""
    name = ""
    found: List[_Parameter] = []
    for number, kind, value, stop in wire.fields(data, start, end, 1, budget):
        if number == 1 and kind == wire.LENGTH:
            name = wire.read_text(data, value, stop)
        elif number == 2 and kind == wire.LENGTH:
            found.append(_read_parameter(data, value, stop, 2, budget))
    for parameter in found[:_MOST_REFUSED]:
        parameters.add(f"outputs.{name}.", parameter, _TENSOR_PARAMETERS)
    return name


def _read_parameter(data: wire.Buffer, start: int, end: int, depth: int, budget: wire.Budget) -> _Parameter:
    """An entry {1: name, 2: InferParameter {3: string_param}}."""
    name = ""
    text: Optional[str] = None
    for number, kind, value, stop in wire.fields(data, start, end, depth, budget):
        if number == 1 and kind == wire.LENGTH:
            name = wire.read_text(data, value, stop)
        elif number == 2 and kind == wire.LENGTH:
            for inner, inner_kind, at, behind in wire.fields(data, value, stop, depth + 1, budget):
                if inner == 3 and inner_kind == wire.LENGTH:
                    text = wire.read_text(data, at, behind)
                elif (inner, inner_kind) in _OTHER_CHOICES:
                    text = None
    return _Parameter(name, text)


class _Draft(Payloads):
    """An InferInputTensor or InferOutputTensor, and its contents, while they are read."""

    FIELDS = _CONTENTS
    __slots__ = ("datatype", "dims", "name", "parameters", "strings")

    def __init__(self, data: wire.Buffer, start: int, end: int, budget: wire.Budget) -> None:
        super().__init__(data, budget)
        budget.spend(_TENSOR_PARTS)
        self.name = self.datatype = ""
        self.dims: List[int] = []
        self.strings: List[bytes] = []
        self.parameters: List[_Parameter] = []
        self._read(start, end)

    def _read(self, start: int, end: int) -> None:
        for number, kind, value, stop in wire.fields(self.data, start, end, 1, self.budget):
            if kind == wire.LENGTH:
                if number == 1:
                    self.name = wire.read_text(self.data, value, stop)
                elif number == 2:
                    self.datatype = wire.read_text(self.data, value, stop)
                elif number == 3:
                    self._add_dims(varints.decode(self.data, value, stop, _INT64)[: MAX_RANK + 1].tolist())
                elif number == 4:
                    parameter = _read_parameter(self.data, value, stop, 2, self.budget)
                    if len(self.parameters) < _MOST_REFUSED:
                        self.parameters.append(parameter)
                elif number == 5:
                    while value < stop:
                        value = self._read_contents(value, stop)
            elif number == 3 and kind == wire.VARINT:
                self._add_dims([wire.int64(value)])

    def _add_dims(self, dims: List[int]) -> None:
        self.dims = ranked(self.dims + dims)

    def _read_contents(self, start: int, end: int) -> int:
        """Up to the end, or behind a row of strings; how far that is."""
        for number, kind, value, stop in wire.fields(self.data, start, end, 2, self.budget):
            if number in _CONTENTS:
                if kind == wire.LENGTH:
                    self.add_packed(number, value, stop)
                elif kind == _CONTENTS[number].kind:
                    self.add_single(number, kind, value, stop)
                    behind = self.add_run(number, kind, stop, end)
                    if behind > stop:
                        return behind
            elif number == _BYTES_CONTENTS and kind == wire.LENGTH:
                self.budget.spend_strings(1)
                more, behind = wire.row(self.data, stop, end, _BYTES_CONTENTS, self.budget)
                self.strings += (bytes(self.data[value:stop]), *more)
                if more:
                    self.budget.spend(ROW_PARTS)
                    return behind
        return end

    def tensor(self, raw: Optional[_Span]) -> Tensor:
        dtype = _TYPES.get(self.datatype)
        found = self.numbers()
        if dtype is None:
            known = ", ".join(_TYPES)
            raise TensorError(f"{self.name!r}: expected a datatype of {known}, got {self.datatype!r}")
        shape = tuple(self.dims)
        try:
            return Tensor(dtype, shape, self._values(dtype, found, raw))
        except numerics.Unreadable as error:
            return Tensor(dtype, shape, EMPTY, str(error))

    def _values(self, dtype: DataType, found: Dict[int, NDArray[Any]], raw: Optional[_Span]) -> NDArray[Any]:
        came = [*found, *[_BYTES_CONTENTS][: len(self.strings)]]
        if raw is not None:
            if came:
                raise numerics.Unreadable("expected values once, got them in raw contents and in contents")
            return _raw(dtype, self.data, *raw, self.budget)
        carrier = _CARRIERS.get(dtype, 0)
        if came and carrier not in came:
            where = _NAMES.get(carrier, "raw contents")
            strays = " and ".join(_NAMES[number] for number in sorted(came))
            raise numerics.Unreadable(f"expected {DATATYPES[dtype]} values in {where}, got values in {strays}")
        if dtype is DataType.STRING:
            return objects(self.strings)
        return numerics.cast(dtype, _CONTENTS[carrier], found[carrier]) if came else np.empty(0, NUMPY[dtype])


_NAMES = {_BYTES_CONTENTS: "bytes_contents", **{number: field.name for number, field in _CONTENTS.items()}}


def _raw(dtype: DataType, data: wire.Buffer, start: int, end: int, budget: wire.Budget) -> NDArray[Any]:
    if dtype is not DataType.STRING:
        return numerics.of_content(dtype, data, start, end, "raw contents")
    strings: List[bytes] = []
    at = start
    while at < end:
        left = end - at - _LENGTH_BYTES
        size = int.from_bytes(data[at : at + _LENGTH_BYTES], "little")
        if left < 0 or size > left:
            wanted = f"a string of {size} bytes" if left >= 0 else f"a length of {_LENGTH_BYTES} bytes"
            raise numerics.Unreadable(f"expected {wanted} at offset {at - start} of raw contents, got their end")
        at += _LENGTH_BYTES + size
        strings.append(bytes(data[at - size : at]))
        if len(strings) > budget.strings:
            break
    budget.spend_strings(len(strings))
    return objects(strings)


# Encoding -----------------------------------------------------------------------------------------------------------


def encode_request(request: InferRequest) -> bytes:
    """The ModelInferRequest's bytes. Raises TensorError."""
    parts: Parts = [_texts(request)]
    if request.signature_name:
        value = wire.length_field(2, wire.length_field(3, request.signature_name.encode()))
        parts.append(wire.length_field(4, wire.length_field(1, _SIGNATURE.encode()) + value))
    _add_tensors(parts, request.inputs, 7, raw=request.raw)
    parts += [wire.length_field(6, wire.length_field(1, name.encode())) for name in request.outputs]
    return b"".join(parts)


def encode_response(request: InferRequest, outputs: Mapping[str, Tensor]) -> bytes:
    """The bytes of the ModelInferResponse to a request: the outputs that it asks for, raw if it is. Raises TensorError."""
    parts: Parts = [_texts(request)]
    _add_tensors(parts, {name: outputs[name] for name in request.outputs or outputs}, 6, raw=request.raw)
    return b"".join(parts)


def _texts(request: InferRequest) -> bytes:
    told = ((1, request.model_name), (2, request.model_version), (3, request.id))
    return b"".join(wire.length_field(number, text.encode()) for number, text in told if text)


def _add_tensors(parts: Parts, tensors: Mapping[str, Tensor], raw_number: int, *, raw: bool) -> None:
    """Append the tensors, and their raw contents as field `raw_number`. All are raw where one of them can travel no other way."""
    raw = raw or any(tensor.dtype in DATATYPES and tensor.dtype not in _CARRIERS for tensor in tensors.values())
    raws: Parts = []
    for name, tensor in tensors.items():
        if tensor.problem:
            raise TensorError(f"{name!r}: {tensor.problem}")
        if tensor.dtype not in DATATYPES:
            known = ", ".join(DATATYPES.values())
            raise TensorError(f"{name!r}: expected a type that is one of {known}, got {tensor.dtype.label}")
        head = _head(name, tensor.dtype, shaped(tensor).shape or ())
        place = len(parts)
        parts.append(b"")
        size = 0
        if raw:
            _add_raw(raws, raw_number, tensor)
        elif len(tensor.values):
            size = _add_contents(parts, tensor)
        parts[place] = wire.length_header(5, len(head) + size) + head
    parts += raws


@lru_cache(maxsize=1024)
def _head(name: str, dtype: DataType, shape: Shape) -> bytes:
    """The fields before the contents: name, datatype, shape."""
    dims = wire.length_field(3, b"".join(map(wire.varint, shape))) if shape else b""
    return wire.length_field(1, name.encode()) + wire.length_field(2, DATATYPES[dtype].encode()) + dims


def _add_raw(parts: Parts, number: int, tensor: Tensor) -> None:
    if tensor.dtype is DataType.STRING:
        payload: Any = b"".join(_with_lengths(tensor.values))
        size = len(payload)
    else:
        payload, size = packed(tensor.dtype, NUMPY[tensor.dtype].itemsize, tensor.values)
    parts += (wire.length_header(number, size), payload)


def _with_lengths(values: Iterable[bytes]) -> Iterable[bytes]:
    for value in values:
        yield len(value).to_bytes(_LENGTH_BYTES, "little")
        yield value


def _add_contents(parts: Parts, tensor: Tensor) -> int:
    """Append field 5, the contents; the bytes they take."""
    number = _CARRIERS[tensor.dtype]
    place = len(parts)
    parts.append(b"")
    if number == _BYTES_CONTENTS:
        size = add_strings(parts, number, tensor.values)
    else:
        payload, length = packed(tensor.dtype, _CONTENTS[number].width, tensor.values)
        parts += (wire.length_header(number, length), payload)
        size = len(parts[-2]) + length
    parts[place] = header = wire.length_header(5, size)
    return len(header) + size
