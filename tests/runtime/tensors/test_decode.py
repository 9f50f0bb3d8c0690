"""Requests and responses read without protobuf, judged by protobuf: same bytes accepted, same values read."""

from random import Random
from typing import Any

import grammar
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_runtime import wire
from model_runtime.contract.types import DataType
from model_runtime.tensors import (
    ERAS,
    Era,
    Request,
    Tensor,
    TensorError,
    array,
    decode_request,
    decode_response,
    encode_request,
    tensor,
)
from model_runtime.tensors.tensor import CARRIERS, VALUE_FIELDS

V2, V3 = ERAS["v2"], ERAS["v3"]
EVERY_ERA = pytest.mark.parametrize("era", ERAS.values(), ids=ERAS)

# hydrosphere.md §4: produced with the published wheels.
GOLDEN_V2 = bytes.fromhex("0a0f0a0463616c63120208011a03616464120c0a01611207080312003a0103")
GOLDEN_V3 = bytes.fromhex("0a0c0a01611207080312003a0103")


def one(era: Era, tensor: bytes) -> Tensor:
    """The tensor of these bytes, read within a request that protobuf reads in the same way."""
    data = wire.length_field(era.inputs, wire.length_field(1, b"x") + wire.length_field(2, tensor))
    request = oracle.request(era, data)
    assert request is not None
    return request.inputs["x"]


def test_the_golden_v2_request_is_read() -> None:
    request = decode_request(V2, GOLDEN_V2)

    assert (request.model_name, request.model_version, request.signature_name) == ("calc", 1, "add")
    assert request.inputs["a"].shape == ()
    assert array(request.inputs["a"])[()] == np.int32(3)
    assert encode_request(V2, request) == GOLDEN_V2


def test_the_golden_v3_request_is_read() -> None:
    request = decode_request(V3, GOLDEN_V3)

    assert array(request.inputs["a"])[()] == np.int32(3)
    assert encode_request(V3, request) == GOLDEN_V3


@EVERY_ERA
def test_a_shape_message_that_is_absent_differs_from_an_empty_one(era: Era) -> None:
    assert one(era, bytes.fromhex("080312003a0103")).shape == ()
    assert one(era, bytes.fromhex("08033a0103")).shape is None


def test_an_unknown_rank_is_no_shape() -> None:
    assert one(V2, bytes.fromhex("0803" + "12021801" + "3a0103")).shape is None


def test_the_last_word_on_the_rank_counts() -> None:
    known, unknown = "12041202 0802", "1202 1801"
    assert one(V2, bytes.fromhex("0803 3a020102" + unknown + "1202 1800" + known)).shape == (2,)
    assert one(V2, bytes.fromhex("0803 3a020102" + known + unknown + "1200")).shape is None


@pytest.mark.parametrize(
    "tensor",
    [
        pytest.param("1205 1203 1201 ff", id="a dim's name that is not UTF-8"),
        pytest.param("7a03 0a01 ff", id="a variant's name that is not UTF-8"),
        pytest.param("7a05 1a03 3a01 80", id="a cut integer in a variant's tensor"),
        pytest.param("7a0f 1a0d 3a0b 8080808080808080808001", id="a long integer in a variant's tensor"),
        pytest.param("0801 3a0b 8080808080808080808001", id="a long integer in a field that is not read"),
    ],
)
def test_what_nobody_reads_must_still_be_well_formed(tensor: str) -> None:
    entry = wire.length_field(1, b"x") + wire.length_field(2, bytes.fromhex(tensor))
    assert oracle.request(V2, wire.length_field(2, entry)) is None


# Against protobuf ---------------------------------------------------------------------------------------------------

VALUES: dict[str, tuple[int, Any]] = {
    "float_val": (1, st.floats(width=32)),
    "double_val": (2, st.floats()),
    "int_val": (3, st.integers(-(1 << 31), (1 << 31) - 1)),
    "string_val": (7, st.binary(max_size=8)),
    "scomplex_val": (8, st.floats(width=32)),
    "int64_val": (9, st.integers(-(1 << 63), (1 << 63) - 1)),
    "bool_val": (10, st.booleans()),
    "dcomplex_val": (18, st.floats()),
    "half_val": (19, st.integers(-1, 1 << 16)),
    "uint32_val": (22, st.integers(0, (1 << 32) - 1)),
    "uint64_val": (23, st.integers(0, (1 << 64) - 1)),
}
DTYPES = [*range(25), 27, 101]


@st.composite
def filled(draw: Any, era: Era, message: Any, nested: int = 2) -> Any:
    """A tensor message of protobuf's, filled at random and more often than not with values of its own type."""
    field = draw(st.sampled_from(sorted(VALUES)))
    message.dtype = VALUES[field][0] if draw(st.booleans()) else draw(st.sampled_from(DTYPES))
    getattr(message, field).extend(draw(st.lists(VALUES[field][1], max_size=40)))
    if draw(st.booleans()):
        message.tensor_shape.SetInParent()
        for dim in draw(st.lists(st.integers(-1, 5) | st.integers(-(1 << 63), (1 << 63) - 1), max_size=4)):
            if era.nested_dims:
                message.tensor_shape.dim.add(size=dim)
            else:
                message.tensor_shape.dims.append(dim)
    if nested and draw(st.integers(0, 4)) == 0:
        message.dtype = 27
        inner = message.map_val if era.plain_maps else message.map_val.add().subtensors
        draw(filled(era, inner[draw(st.text(max_size=2))], nested - 1))
    return message


@EVERY_ERA
@given(data=st.data())
def test_what_protobuf_writes_is_read_as_protobuf_reads_it(era: Era, data: st.DataObject) -> None:
    message = oracle.message(era, "PredictRequest")()
    for name in data.draw(st.sets(st.text(max_size=3), max_size=3)):
        data.draw(filled(era, message.inputs[name]))
    if era.model_spec:
        message.model_spec.signature_name = data.draw(st.text(max_size=3))

    request = oracle.request(era, message.SerializeToString())

    assert request is not None
    oracle.round_trip(era, request)


@EVERY_ERA
@given(data=st.data())
def test_responses_are_read_as_protobuf_reads_them(era: Era, data: st.DataObject) -> None:
    message = oracle.message(era, "PredictResponse")()
    data.draw(filled(era, message.outputs["y"]))

    assert oracle.response(era, message.SerializeToString()) is not None


@EVERY_ERA
@settings(max_examples=300)
@given(seed=st.integers(0, 1 << 64))
def test_hostile_bytes_are_accepted_exactly_when_protobuf_accepts_them(era: Era, seed: int) -> None:
    rng = Random(seed)
    data = grammar.message(rng, f"{era.name}.request")
    for _ in range(3):
        oracle.request(era, data)
        oracle.response(era, data)
        data = grammar.mutate(rng, data)


@EVERY_ERA
@given(data=st.binary(max_size=60))
def test_any_bytes_are_accepted_exactly_when_protobuf_accepts_them(era: Era, data: bytes) -> None:
    oracle.request(era, data)
    oracle.response(era, data)


@EVERY_ERA
def test_nesting_ends_where_protobufs_ends(era: Era) -> None:
    refused = 0
    for maps in range(24, 50):
        for groups in range(4):
            tensor = (wire.varint(403) * groups) + (wire.varint(404) * groups)
            for _ in range(maps):
                entry = wire.length_field(1, b"") + wire.length_field(2, tensor)
                tensor = wire.length_field(27, entry if era.plain_maps else wire.length_field(1, entry))
            request = oracle.request(era, wire.length_field(era.inputs, wire.length_field(2, tensor)))
            refused += request is None
    assert 0 < refused < 26 * 4


@EVERY_ERA
def test_groups_end_where_protobufs_end(era: Era) -> None:
    accepted = [oracle.request(era, b"\xa3\x06" * depth + b"\xa4\x06" * depth) is not None for depth in range(95, 105)]
    assert accepted == sorted(accepted, reverse=True)
    assert {True, False} <= set(accepted)


# Where values may stand ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "floats",
    [
        pytest.param("2a0c 0000803f 00000040 00004040", id="packed"),
        pytest.param("2d0000803f 2d00000040 2d00004040", id="unpacked"),
        pytest.param("2a04 0000803f 2a00 2a08 00000040 00004040", id="chunks"),
        pytest.param("2d0000803f 2a04 00000040 2d00004040", id="mixed"),
    ],
)
def test_floats_come_packed_or_not_and_in_any_number_of_pieces(floats: str) -> None:
    assert one(V3, bytes.fromhex("0801" + floats)).values.tolist() == [1.0, 2.0, 3.0]


def test_a_value_cut_by_the_end_of_its_piece_is_no_message() -> None:
    for pieces in ("0801 2a03 000080 2a01 3f", "0803 3a01 ac 3a01 02"):
        tensor = wire.length_field(1, b"x") + wire.length_field(2, bytes.fromhex(pieces))
        assert oracle.request(V3, wire.length_field(1, tensor)) is None


def test_a_message_that_comes_in_pieces_is_merged_and_the_last_scalar_wins() -> None:
    first, second = (
        bytes.fromhex("0801 12030a0102 2a040000803f"),
        bytes.fromhex("0802 12030a0103 31000000000000f03f 0801 2d00000040"),
    )
    entry = (
        wire.length_field(1, b"a")
        + wire.length_field(2, first)
        + wire.length_field(1, b"x")
        + wire.length_field(2, second)
    )

    request = oracle.request(V3, wire.length_field(1, entry))

    assert request is not None
    assert list(request.inputs) == ["x"]
    assert request.inputs["x"][:2] == (DataType.FLOAT, (2, 3))
    assert request.inputs["x"].values.tolist() == [1.0, 2.0]


@EVERY_ERA
def test_a_request_like_one_before_is_read_with_its_own_values(era: Era) -> None:
    for number in range(3):
        for name in ("a", "b"):
            values = np.array([number, len(name), 0.5])
            data = encode_request(era, Request({name: tensor(values), "z": tensor(values.astype("f4"))}))

            request = oracle.request(era, data)

            assert request is not None
            assert request.inputs[name].values.tolist() == values.tolist()
            assert not request.inputs[name].values.flags.owndata


def test_values_that_only_look_like_those_of_one_before_are_read_for_themselves() -> None:
    """bfloat16s are held as float32, but floats beside them are none of theirs."""
    for floats in ("0000803f 00000040", "00000040 0000803f"):
        pieces = f"080e 2204 c03f803f 2a08 {floats}"
        entry = wire.length_field(1, b"x") + wire.length_field(2, bytes.fromhex(pieces))
        assert oracle.request(V3, wire.length_field(1, entry)) is not None


def test_the_last_of_equal_names_wins() -> None:
    entries = [
        wire.length_field(1, wire.length_field(1, b"x") + wire.length_field(2, bytes([8, 3, 0x38, n]))) for n in (1, 2)
    ]

    request = oracle.request(V3, b"".join(entries))

    assert request is not None
    assert request.inputs["x"].values.tolist() == [2]


@pytest.mark.parametrize(
    ("dtype", "content", "values"),
    [
        (1, "0000803f00000040", [1.0, 2.0]),
        (2, "000000000000f03f", [1.0]),
        (3, "ffffffff02000000", [-1, 2]),
        (4, "00ff", [0, 255]),
        (5, "feff", [-2]),
        (6, "80", [-128]),
        (8, "0000803f00000040", [1 + 2j]),
        (9, "ffffffffffffffff", [-1]),
        (10, "000102", [False, True, True]),
        (14, "803f00c0", [1.0, -2.0]),
        (17, "ffff", [65535]),
        (18, "000000000000f03f0000000000000040", [1 + 2j]),
        (19, "003c00c0", [1.0, -2.0]),
        (22, "ffffffff", [(1 << 32) - 1]),
        (23, "ffffffffffffffff", [(1 << 64) - 1]),
    ],
)
@EVERY_ERA
def test_numbers_may_come_as_bytes_as_tensorflows_clients_send_them(
    era: Era, dtype: int, content: str, values: list[Any]
) -> None:
    tensor = one(era, wire.varint_field(1, dtype) + wire.length_field(4, bytes.fromhex(content)))

    assert tensor.problem == ""
    assert tensor.values.tolist() == values


@pytest.mark.parametrize(
    ("tensor", "problem"),
    [
        ("0801 2203 000000", "expected tensor_content of 4 bytes for each float32, got 3 bytes"),
        ("0801 2204 00000000 2d00000000", "expected values once, got them in float_val and in tensor_content"),
        ("0807 220161", "expected string values in string_val, got tensor_content"),
        ("0801 3a0101 420161", "expected float32 values in float_val, got values in int_val and string_val"),
        ("0807 3a0101", "expected string values in string_val, got values in int_val"),
        ("0806 3a028001", r"expected int8 values in int_val, got 128 at \[0\]"),
        ("0804 3a0b 01 ffffffffffffffffff01", r"expected uint8 values in int_val, got -1 at \[1\]"),
        ("0813 6a03ffff7f", r"expected 16-bit patterns of half in half_val, got 2097151 at \[0\]"),
        ("0816 3a0affffffffffffffffff01", r"expected uint32 values in int_val, got -1 at \[0\]"),
        ("0808 4d00000000", "expected pairs of real and imaginary parts in scomplex_val, got 1 numbers"),
        ("3a0101", r"expected a tensor of numbers, strings or maps, got invalid \(0\)"),
        ("0815 3a0101", r"expected a tensor of numbers, strings or maps, got variant \(21\)"),
        ("0865 3a0101", "expected a tensor of numbers, strings or maps, got the unknown type 101"),
    ],
)
def test_values_that_cannot_be_read_are_a_problem_of_their_tensor_only(tensor: str, problem: str) -> None:
    found = one(V2, bytes.fromhex(tensor))

    with pytest.raises(ValueError, match=f"^{problem}$"):
        array(found)


@pytest.mark.parametrize(("dtype", "field"), [(17, 7), (17, 16), (22, 16), (22, 7)])
def test_unsigned_integers_are_read_from_both_fields_that_carried_them(dtype: int, field: int) -> None:
    assert one(V2, wire.varint_field(1, dtype) + wire.varint_field(field, 7)).values.tolist() == [7]


def test_fixed_width_values_are_views_on_the_request() -> None:
    data = bytearray(
        wire.length_field(
            1, wire.length_field(1, b"x") + wire.length_field(2, bytes.fromhex("08012a080000803f00000040"))
        )
    )

    values = decode_request(V3, data).inputs["x"].values  # type: ignore[arg-type]
    data[-4:] = bytes.fromhex("0000a040")

    assert values.tolist() == [1.0, 5.0]


def test_a_map_entry_with_anything_else_in_it_is_dropped_as_in_protobuf() -> None:
    assert decode_request(V3, GOLDEN_V2).inputs == {}
    assert oracle.request(V3, GOLDEN_V2) is not None


@EVERY_ERA
def test_dims_beyond_any_array_are_refused(era: Era) -> None:
    dims = wire.length_field(2, b"") * 5000 if era.nested_dims else wire.length_field(1, bytes(5000))

    with pytest.raises(wire.TooMany, match="expected at most 32 dimensions, got more"):
        decode_request(era, wire.length_field(era.inputs, wire.length_field(2, wire.length_field(2, dims))))


def test_responses_of_both_forms_are_read() -> None:
    assert list(decode_response(V3, GOLDEN_V3)) == ["a"]


# What TensorFlow leaves out -----------------------------------------------------------------------------------------

TENSORFLOWS = pytest.mark.parametrize("era", [ERAS["0.0.5"], ERAS["v2"]], ids=lambda era: era.name)


@TENSORFLOWS
@given(data=st.data())
def test_values_that_are_left_out_are_supplied_as_tensorflow_does(era: Era, data: st.DataObject) -> None:
    """For every type and any number of values: the last one again, or zeros."""
    message = oracle.message(era, "PredictRequest")()
    tensor = message.inputs["x"]
    data.draw(filled(era, tensor))
    mine = decode_request(era, message.SerializeToString()).inputs["x"]
    if mine.omitted > 10_000 or mine.problem:
        return
    expected = oracle.completed(tensor)
    if expected is None:
        return
    assert repr(array(mine).ravel().tolist()) == repr(expected)  # by their text: NaN
    assert list(array(mine).shape) == oracle.reading(tensor)[1]


@pytest.mark.parametrize("values", [[], [7], [7, 0]])
@pytest.mark.parametrize("field", [*CARRIERS, DataType.STRING], ids=lambda dtype: dtype.label)
def test_a_value_stands_for_the_rest_of_its_shape(field: DataType, values: list[int]) -> None:
    message = oracle.message(ERAS["v2"], "PredictRequest")()
    tensor = message.inputs["x"]
    tensor.dtype = field
    for size in (2, 3):
        tensor.tensor_shape.dim.add(size=size)
    carrier = "string_val" if field is DataType.STRING else VALUE_FIELDS[CARRIERS[field][0]].name
    parts = 2 if "complex" in carrier else 1
    sent = [b"%d" % value for value in values] if field is DataType.STRING else values * parts
    getattr(tensor, carrier).extend(sent)

    for _ in range(2):  # the second time the head of the message is known
        got = array(decode_request(ERAS["v2"], message.SerializeToString()).inputs["x"], (2, 3))

        assert got.ravel().tolist() == oracle.completed(tensor)


def test_v3_leaves_nothing_out() -> None:
    message = oracle.message(ERAS["v3"], "PredictRequest")()
    message.inputs["x"].dtype = 1
    message.inputs["x"].tensor_shape.dims.extend([2, 3])
    message.inputs["x"].float_val.append(1)

    with pytest.raises(TensorError, match=r"expected 6 values for shape \[2, 3\], got 1"):
        array(decode_request(ERAS["v3"], message.SerializeToString()).inputs["x"])


@pytest.mark.parametrize("sizes", [[10**12], [2**62, 2**62], [2**40, 0, 2**40]])
def test_what_is_left_out_is_bounded_before_it_is_made(sizes: list[int]) -> None:
    message = oracle.message(ERAS["v2"], "PredictRequest")()
    message.inputs["x"].dtype = 1
    for size in sizes:
        message.inputs["x"].tensor_shape.dim.add(size=size)
    message.inputs["x"].float_val.append(1)

    with pytest.raises(TensorError, match="expected"):
        array(decode_request(ERAS["v2"], message.SerializeToString()).inputs["x"])
