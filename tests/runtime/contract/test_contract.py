"""Contracts: read and written in every form, checked, compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_runtime import contract, protos
from model_runtime.contract import Contract, DataType, Field, Profile, Signature, binary, discovery
from model_runtime.contract.types import PROFILES_BY_NAME, TYPES_BY_NAME
from model_runtime.errors import ContractError, Violation

# From the published wheels (hydrosphere.md, section 4).
V2_BYTES = bytes.fromhex(
    "0a0463616c6312310a0361646412070a01611200200312180a01621211120b08ffffffffffffffffff011202080220031a070a0373756d2003"
)
V3_BYTES = bytes.fromhex(
    "0a0361646412070a01611200200312160a0162120d0a0bffffffffffffffffff0102200328021a070a0373756d2003"
)
INT32 = DataType.INT32

names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
shapes = st.none() | st.lists(st.integers(-1, 2**40), max_size=4).map(tuple)
dtypes = st.sampled_from(
    [dtype for dtype in DataType if dtype not in (DataType.INVALID, DataType.RESOURCE, DataType.VARIANT, DataType.MAP)]
)


def fields(depth: int = 2) -> st.SearchStrategy[tuple[Field, ...]]:
    leaf = st.builds(Field, name=names, dtype=dtypes, shape=shapes, profile=st.sampled_from(list(Profile)))
    if depth:
        nested = st.builds(
            Field,
            name=names,
            dtype=st.just(DataType.MAP),
            shape=shapes,
            fields=fields(depth - 1).filter(bool),
            profile=st.just(Profile.NONE),
        )
        leaf = leaf | nested
    return st.lists(leaf, max_size=3, unique_by=lambda field: field.name).map(tuple)


signatures = st.builds(Signature, name=names, inputs=fields(), outputs=fields().filter(bool))
contracts = st.builds(Contract, signatures=signatures.map(lambda one: (one,)), model_name=names)
many = st.builds(
    Contract,
    signatures=st.lists(signatures, min_size=1, max_size=3, unique_by=lambda one: one.name).map(tuple),
    model_name=names,
)


# Bytes --------------------------------------------------------------------------------------------------------------


def test_the_published_bytes_are_read_and_written() -> None:
    expected = Signature("add", (Field("a", INT32, ()), Field("b", INT32, (-1, 2))), (Field("sum", INT32, None),))

    assert contract.read(V2_BYTES) == Contract((expected,), "calc")
    assert contract.write(contract.read(V2_BYTES), "v2") == contract.write(contract.read(V2_BYTES), "v0") == V2_BYTES
    assert contract.read(V3_BYTES).signatures[0].inputs[1].profile is Profile.NUMERICAL
    assert contract.write(contract.read(V3_BYTES), "v3") == V3_BYTES


@given(many)
def test_what_is_written_as_v0_is_read_back(made: Contract) -> None:
    assert contract.read(contract.write(made, "v0")) == made


@given(contracts)
def test_what_is_written_as_v3_is_read_back_without_the_models_name(made: Contract) -> None:
    assert contract.read(contract.write(made, "v3")).signatures == made.signatures


@given(contracts)
def test_protobuf_reads_what_we_write_and_writes_it_alike(made: Contract) -> None:
    for era, name in (
        ("v2", "hydrosphere.contract.ModelContract"),
        ("v3", "hydrosphere.serving.contract.ModelSignature"),
    ):
        data = contract.write(made, era)

        message = protos.message(era, name).FromString(data)

        assert message.SerializeToString(deterministic=True) == data
        signature = message.predict if era == "v2" else message
        assert signature.signature_name == made.signatures[0].name
        assert [field.name for field in signature.inputs] == [field.name for field in made.signatures[0].inputs]


@given(many)
def test_a_client_that_asks_gets_the_same_signatures(made: Contract) -> None:
    assert discovery.read(discovery.write(made)).signatures == made.signatures


def test_many_signatures_fit_v0_only() -> None:
    two = Contract((Signature("a", (), (Field("y"),)), Signature("b", (), (Field("y"),))))

    assert [signature.name for signature in contract.read(contract.write(two, "v0")).signatures] == ["a", "b"]
    with pytest.raises(ContractError, match="a contract of era v2 holds one signature, got 2: a, b"):
        contract.write(two, "v2")


def test_files_of_2017_are_read() -> None:
    """ModelField {1: field_name, 3: TensorInfo {2: dtype, 3: shape}}, as 0.0.5 wrote it."""
    message = protos.message("v0.0.5", "hydrosphere.contract.ModelContract")()
    signature = message.signatures.add(signature_name="infer")
    for side in (signature.inputs, signature.outputs):
        field = side.add(field_name="x")
        field.info.dtype = 102  # DT_DOUBLE_REF
        field.info.tensor_shape.dim.add(size=-1)
    signature.inputs.add(field_name="bare")

    read = contract.read(message.SerializeToString())

    assert str(read) == "infer(x: double[*], bare: any[...]) -> x: double[*]"


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_contract_or_a_contract_error(data: bytes) -> None:
    try:
        assert isinstance(contract.read(data), Contract)
    except ContractError as error:
        assert str(error)


@given(contracts, st.data())
def test_truncated_bytes_give_a_contract_or_a_contract_error(made: Contract, data: Any) -> None:
    whole = contract.write(made)
    try:
        contract.read(whole[: data.draw(st.integers(0, len(whole) - 1))])
    except ContractError as error:
        assert str(error)


def test_nesting_without_end_is_refused() -> None:
    bomb = b""
    for _ in range(200):
        bomb = b"\x0a" + _length(b"\x1a" + _length(bomb))
    data = b"\x12" + _length(b"\x12" + _length(b"\x1a" + _length(bomb)))

    with pytest.raises(ContractError, match="more than 32 levels"):
        contract.read(data)


def _length(payload: bytes) -> bytes:
    from model_runtime import wire

    return wire.varint(len(payload)) + payload


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "contract.protobin is empty"),
        (b"\x0a\x05abc", "5 bytes announced at offset 1, 3 are left"),
        (b"\x0a\x01\xff", "no ModelContract and no ModelSignature"),
        (b"\x00" * (1 << 20 | 1), "expected at most 1048576"),
        (b"\x0a\x04calc", "expected at least one signature, got none"),
    ],
)
def test_unreadable_bytes_are_told_clearly(data: bytes, text: str) -> None:
    with pytest.raises(ContractError, match=text):
        contract.read(data)


def test_the_form_is_told_by_structure_not_by_what_parses() -> None:
    assert not binary.is_signature(V2_BYTES)
    assert binary.is_signature(V3_BYTES)


# YAML ---------------------------------------------------------------------------------------------------------------

SERVING_YAML = {
    "name": "predict",
    "inputs": {
        "pixels": {"shape": [-1, 64], "type": "double", "profile": "Numerical"},
        "person": {"shape": "scalar", "fields": {"name": {"shape": "scalar", "type": "string", "profile": "text"}}},
        "anything": {"type": "float32"},
    },
    "outputs": {"digit": {"shape": [-1], "type": "int64"}},
}


def test_serving_yaml_is_read() -> None:
    read = contract.parse(SERVING_YAML)

    assert (
        str(read) == "predict(pixels: double[*,64], person: {name:string}, anything: float32[...]) -> digit: int64[*]"
    )
    assert read.signatures[0].inputs[0].profile is Profile.NUMERICAL
    assert read.model_name == "model"


@given(many)
def test_what_is_formatted_is_parsed_back(made: Contract) -> None:
    assert contract.parse(contract.format(made)).signatures == made.signatures


def test_signatures_may_be_called_inputs_and_outputs() -> None:
    signature = {"inputs": {}, "outputs": {"y": {"type": "double"}}}

    read = contract.parse({"inputs": signature, "outputs": signature})

    assert [str(each) for each in read.signatures] == ["inputs() -> y: double[...]", "outputs() -> y: double[...]"]


def test_fields_may_be_called_inputs_and_outputs() -> None:
    field = {"type": "double", "shape": "scalar"}

    read = contract.parse({"inputs": {"outputs": field}, "outputs": {"inputs": field, "outputs": field}})

    assert str(read) == "predict(outputs: double) -> (inputs: double, outputs: double)"


def test_fields_nested_without_end_are_refused() -> None:
    field: dict[str, object] = {"type": "double"}
    for _ in range(200):
        field = {"fields": {"a": field}}

    with pytest.raises(ContractError, match="expected at most 32 levels of nested fields"):
        contract.parse({"outputs": {"y": field}})


@pytest.mark.parametrize(("name", "dtype"), TYPES_BY_NAME.items())
def test_every_name_of_a_type_is_known(name: str, dtype: DataType) -> None:
    if dtype in (DataType.RESOURCE, DataType.VARIANT):
        return
    promise = {"inputs": {}, "outputs": {"y": {"type": name.upper()}}}

    assert contract.parse(promise).signatures[0].outputs[0].dtype is dtype


@pytest.mark.parametrize(("name", "profile"), PROFILES_BY_NAME.items())
def test_every_name_of_a_profile_is_known(name: str, profile: Profile) -> None:
    promise = {"outputs": {"y": {"type": "int", "profile": name}}}

    assert contract.parse(promise).signatures[0].outputs[0].profile is profile


def test_the_map_of_signatures_of_0_x_is_read() -> None:
    side = {"x": {"shape": "scalar", "type": "int32"}}

    read = contract.parse({"one": {"inputs": side, "outputs": side}, "two": {"inputs": side, "outputs": side}})

    assert str(read) == "one(x: int32) -> x: int32; two(x: int32) -> x: int32"


def test_every_mistake_in_yaml_is_told_at_once() -> None:
    wrong = {
        "name": 3,
        "inputs": {
            "a": {"shape": [-2], "type": "doubel"},
            True: {"type": "int32"},
            "b": {"type": "int32", "fields": {}},
            "c": "int32",
            "d": {"shape": [True], "type": "int32", "dims": []},
        },
        "outputs": {"y": {"profile": "numercial"}},
    }

    with pytest.raises(ContractError) as failure:
        contract.parse(wrong)

    assert {violation.path: violation.message for violation in failure.value.violations} == {
        "contract.name": "expected a name, got 3 (quote it if it is meant as text)",
        "contract.inputs.a.shape": "expected 'scalar' or a list of dimensions (-1 for unknown), got [-2]",
        "contract.inputs.a.type": "unknown type 'doubel': did you mean 'double'?",
        "contract.inputs.True": "expected a name, got True (quote it if it is meant as text)",
        "contract.inputs.b": "expected a type or nested fields, got both",
        "contract.inputs.b.fields": "expected at least one nested field, got none",
        "contract.inputs.c": "expected a mapping, got 'int32'",
        "contract.inputs.d.shape": "expected 'scalar' or a list of dimensions (-1 for unknown), got [True]",
        "contract.inputs.d.dims": "unknown key, expected one of shape, type, profile, fields",
        "contract.outputs.y": "expected a type or nested fields, got neither",
        "contract.outputs.y.profile": "unknown profile 'numercial': did you mean 'numerical'?",
    }


@pytest.mark.parametrize("notation", [None, [], "predict", 3, {}, {"inputs": {}}, {"outputs": []}])
def test_notations_that_are_no_contract_are_refused(notation: Any) -> None:
    with pytest.raises(ContractError):
        contract.parse(notation)


def test_types_that_live_inside_tensorflow_are_refused() -> None:
    with pytest.raises(ContractError, match=r"y\.type: resource tensors live inside TensorFlow"):
        contract.parse({"outputs": {"y": {"type": "resource"}}})


# Check --------------------------------------------------------------------------------------------------------------


def test_arrays_that_keep_the_contract_pass() -> None:
    inputs = contract.parse(SERVING_YAML).signatures[0].inputs

    arrays = {"pixels": np.zeros((3, 64)), "person": {"name": np.str_("Ada")}, "anything": np.float32(1)}

    assert contract.check(inputs, arrays) == []


def test_every_broken_promise_is_told_at_once() -> None:
    inputs = contract.parse(SERVING_YAML).signatures[0].inputs
    people = np.array([{"name": np.int64(3)}], dtype=object)

    found = contract.check(inputs, {"pixels": np.zeros((3, 65)), "person": people[0], "extra": np.zeros(1)})

    assert found == [
        Violation("inputs.pixels", "expected double[*,64], got double[3,65]"),
        Violation("inputs.person.name", "expected string, got int64"),
        Violation("inputs.anything", "expected float32[...], got nothing"),
        Violation("inputs.extra", "not in the contract, expected pixels, person, anything"),
    ]


@given(dtypes.filter(lambda dtype: dtype.numpy[0] and not dtype.name.startswith(("Q", "BF"))), shapes)
def test_every_type_accepts_its_own_arrays_and_no_others(dtype: DataType, shape: Any) -> None:
    kind, size = dtype.numpy
    array = np.zeros((1,) * len(shape or ()), dtype="U1" if kind == "U" else f"{kind}{size}")
    field = Field("x", dtype, tuple(-1 for _ in shape or ()))

    assert contract.check((field,), {"x": array}) == []
    other = DataType.BOOL if dtype is not DataType.BOOL else DataType.INT8
    assert len(contract.check((Field("x", other, None),), {"x": array})) == 1


# Compare ------------------------------------------------------------------------------------------------------------


def changed(side: str, **fields: Any) -> Contract:
    base: dict[str, Any] = {
        "inputs": {"x": {"shape": [-1, 4], "type": "double"}},
        "outputs": {"y": {"shape": [-1], "type": "int64"}},
    }
    base[side] = {**base[side], **fields}
    base[side] = {name: field for name, field in base[side].items() if field is not None}
    return contract.parse(base)


OLD = changed("inputs")


@pytest.mark.parametrize(
    ("new", "broken"),
    [
        (OLD, []),
        (changed("inputs", x={"shape": [-1, -1], "type": "double"}), []),
        (changed("inputs", x={"type": "any"}), []),
        (changed("inputs", x={"shape": [1, 4], "type": "double"}), ["shape changed from [*,4] to [1,4]"]),
        (changed("inputs", x={"shape": [-1, 4], "type": "float32"}), ["type changed from double[*,4] to float32[*,4]"]),
        (changed("inputs", x={"shape": [4], "type": "double"}), ["shape changed from [*,4] to [4]"]),
        (changed("inputs", z={"type": "int64"}), ["added: requests without it are refused"]),
        (changed("inputs", x=None), ["removed: requests that send it are refused"]),
        (changed("outputs", z={"type": "int64"}), []),
        (changed("outputs", y={"shape": [3], "type": "int64"}), []),
        (changed("outputs", y={"type": "int64"}), ["shape changed from [*] to [...]"]),
        (changed("outputs", y={"shape": [-1], "type": "int32"}), ["type changed from int64[*] to int32[*]"]),
        (changed("outputs", y={"shape": [-1], "type": "int64", "profile": "nominal"}), []),
        (changed("outputs", z={"type": "int64"}, y=None), ["removed: clients that read it find nothing"]),
    ],
)
def test_changes_break_clients_or_do_not(new: Contract, broken: list[str]) -> None:
    assert [violation.message for violation in contract.compare(OLD, new)] == broken


@given(many)
def test_every_contract_is_compatible_with_itself(made: Contract) -> None:
    assert contract.compare(made, made) == []


def test_the_name_of_a_single_signature_means_nothing_to_clients() -> None:
    renamed = Contract((Signature("other", OLD.signatures[0].inputs, OLD.signatures[0].outputs),))

    assert contract.compare(OLD, renamed) == []
