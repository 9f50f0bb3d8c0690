"""Random protobuf messages by a schema, in every form the wire format allows, and mutations that keep most of the structure.

Everything is drawn from the Random handed in: the same seed makes the same bytes.
"""

from __future__ import annotations

import struct
from random import Random

from model_runtime import wire

_VALUES = {
    5: "f32*",
    6: "f64*",
    7: "varint*",
    8: "bytes",
    9: "f32*",
    10: "varint*",
    11: "varint*",
    12: "f64*",
    13: "half*",
}
_VALUES.update({16: "varint*", 17: "varint*"})
_FIELD = {1: "text", 3: "subfield", 4: "enum"}
# message: field number: what it holds (a message's name, or one of _LEAVES).
SCHEMA: dict[str, dict[int, str]] = {
    "v2.request": {1: "v2.spec", 2: "v2.entry", 3: "text"},
    "v2.spec": {1: "text", 2: "int64", 3: "text"},
    "int64": {1: "varint"},
    "v2.entry": {1: "text", 2: "v2.tensor"},
    "v2.tensor": {1: "enum", 2: "v2.shape", 3: "varint", 4: "bytes", **_VALUES, 15: "v2.variant", 27: "v2.map"},
    "v2.shape": {2: "v2.dim", 3: "varint"},
    "v2.dim": {1: "size", 2: "text"},
    "v2.map": {1: "v2.entry"},
    "v2.variant": {1: "text", 2: "bytes", 3: "v2.tensor"},
    "0.0.5.request": {1: "v2.spec", 2: "0.0.5.entry", 3: "text"},
    "0.0.5.entry": {1: "text", 2: "0.0.5.tensor"},
    "0.0.5.tensor": {1: "enum", 2: "v2.shape", 4: "bytes", **_VALUES, 27: "0.0.5.entry"},
    "v3.request": {1: "v3.entry"},
    "v3.entry": {1: "text", 2: "v3.tensor"},
    "v3.tensor": {1: "enum", 2: "v3.shape", 4: "bytes", **_VALUES, 27: "v3.map"},
    "v3.shape": {1: "size*"},
    "v3.map": {1: "v3.entry"},
    "infer.request": {
        1: "text",
        2: "text",
        3: "text",
        4: "infer.entry",
        5: "infer.input",
        6: "infer.output",
        7: "bytes",
    },
    "infer.entry": {1: "text", 2: "infer.parameter"},
    "infer.parameter": {1: "varint", 2: "varint", 3: "text", 4: "f64", 5: "varint"},
    "infer.input": {1: "text", 2: "datatype", 3: "size*", 4: "infer.entry", 5: "infer.contents"},
    "infer.contents": {**dict.fromkeys(range(1, 6), "varint*"), 6: "f32*", 7: "f64*", 8: "bytes"},
    "infer.output": {1: "text", 2: "infer.entry"},
    "contract": {1: "text", 2: "v2.signature"},
    "v2.signature": {1: "text", 2: "v2.field", 3: "v2.field"},
    "v2.field": {**_FIELD, 2: "v2.shape", 10: "varint"},
    "subfield": {1: "v2.field"},
    "v3.signature": {1: "text", 2: "v3.field", 3: "v3.field"},
    "v3.field": {**_FIELD, 2: "v3.shape", 5: "varint", 3: "v3.subfield"},
    "v3.subfield": {1: "v3.field"},
}
_NUMBERS = {name: list(fields) for name, fields in SCHEMA.items()}
# What a message most often holds, so that most inputs get past the first check; a tensor's follow from its type.
_USUAL: dict[str, tuple[int, ...]] = {
    "v2.request": (1, 2, 2),
    "0.0.5.request": (1, 2, 2),
    "v3.request": (1, 1),
    "infer.request": (1, 3, 5),
    "infer.input": (1, 2, 3, 5),
    "0.0.5.entry": (1, 2),
    "v2.entry": (1, 2),
    "v3.entry": (1, 2),
    "v2.dim": (1,),
    "contract": (1, 2),
    "v2.signature": (1, 2, 2, 3),
    "v3.signature": (1, 2, 2, 3),
    "v2.field": (1, 2, 4, 10),
    "v3.field": (1, 2, 4, 5),
}
# The value fields of each type, the usual one first.
_CARRIERS = {
    1: (5,),
    2: (6,),
    3: (7,),
    4: (7,),
    5: (7,),
    6: (7,),
    7: (8,),
    8: (9,),
    9: (10,),
    10: (11,),
    11: (7,),
    12: (7,),
}
_CARRIERS.update(
    {13: (7,), 14: (13,), 15: (7,), 16: (7,), 17: (7, 16), 18: (12,), 19: (13,), 22: (16, 7), 23: (17,), 27: (27,)}
)
# The Open Inference Protocol's types, and the field of `contents` that carries each; 0 where values are raw only.
_DATATYPES = {
    "BOOL": 1,
    "INT8": 2,
    "INT16": 2,
    "INT32": 2,
    "INT64": 3,
    "UINT8": 4,
    "UINT16": 4,
    "UINT32": 4,
    "UINT64": 5,
}
_DATATYPES.update({"FP32": 6, "FP64": 7, "BYTES": 8, "FP16": 0, "BF16": 0})
_SMALL_INTS = [0, 1, 2, 3, 100, 127]
_TEXTS = [bytes([letter]) for letter in b"abcdefgh"] * 6 + [
    "größe".encode(),
    b"",
    b"nul\0",
    b"a" * 200,
    b"\xff",
    b"\xed\xa0\x80",
]
_EDGES = [
    0,
    1,
    2,
    3,
    127,
    128,
    255,
    256,
    300,
    32767,
    32768,
    65535,
    65536,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
]
_EDGES += [1 << 56, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 128, (1 << 64) - (1 << 31)]
_FLOATS = [0.0, -0.0, 1.5, float("nan"), float("inf"), 1e-45, 3.4e38]


def message(rng: Random, name: str, depth: int = 0) -> bytes:
    """A message of the schema, mostly well-formed and most often sensible."""
    if name.endswith(".tensor") and rng.random() < 0.8:
        return _sensible_tensor(rng, name, depth)
    if name == "infer.request" and rng.random() < 0.8:
        return _sensible_inference(rng, depth)
    if name in _USUAL and rng.random() < 0.8:
        numbers = list(_USUAL[name])
    else:
        numbers = rng.choices(_NUMBERS[name], k=rng.choice((0, 1, 2, 2, 3, 4)))
    parts = [_field(rng, name, number, depth) for number in numbers]
    if rng.random() < 0.05:
        parts.insert(rng.randrange(len(parts) + 1), _stranger(rng))
    return b"".join(parts)


def _field(rng: Random, name: str, number: int, depth: int) -> bytes:
    what = SCHEMA[name][number]
    if what in SCHEMA:
        return wire.length_field(number, message(rng, what, depth + 1) if depth < 12 else b"")
    return _leaf(rng, number, what)


def _sensible_tensor(rng: Random, name: str, depth: int) -> bytes:
    """A tensor whose values come where its type wants them, in up to three pieces, mostly with a shape that fits something."""
    dtype = rng.choice(list(_CARRIERS))
    parts = [wire.varint_field(1, dtype)]
    if rng.random() < 0.8:
        parts.append(_field(rng, name, 2, depth))
    if rng.random() < 0.15:
        parts.append(_field(rng, name, 4, depth))
    else:
        carrier = rng.choice(_CARRIERS[dtype])
        parts += [_field(rng, name, carrier, depth) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    if rng.random() < 0.1:
        rng.shuffle(parts)
    if rng.random() < 0.1:
        parts.append(_field(rng, name, rng.choice(_NUMBERS[name]), depth))
    return b"".join(parts)


def _sensible_inference(rng: Random, depth: int) -> bytes:
    """A request of inputs with different names, whose values come where their types want them, or all raw."""
    is_raw = rng.random() < 0.5
    parts = [_field(rng, "infer.request", number, depth) for number in rng.choices((1, 2, 3, 4, 6), k=2)]
    for letter in rng.sample("abcdefgh", rng.choice((0, 1, 1, 2, 3))):
        datatype, carrier = rng.choice(list(_DATATYPES.items()))
        tensor = [wire.length_field(1, letter.encode()), wire.length_field(2, datatype.encode())]
        tensor += [_field(rng, "infer.input", 3, depth) for _ in range(rng.choice((1, 1, 2)))]
        if is_raw:
            raw = rng.randbytes(rng.choice((0, 2, 4, 8, 8, 16, 24, 5)))
            if datatype == "BYTES" and rng.random() < 0.8:
                raw = len(raw).to_bytes(4, "little") + raw
            parts.append(wire.length_field(7, raw))
        elif carrier:
            pieces = [_leaf(rng, carrier, SCHEMA["infer.contents"][carrier]) for _ in range(rng.choice((1, 1, 2)))]
            tensor += [wire.length_field(5, piece) for piece in pieces]
        parts.append(wire.length_field(5, b"".join(tensor)))
    if rng.random() < 0.1:
        rng.shuffle(parts)
    return b"".join(parts)


def _leaf(rng: Random, number: int, what: str) -> bytes:
    if what == "datatype":
        return wire.length_field(number, rng.choice([*_DATATYPES, "FP8", ""]).encode())
    if what in ("text", "bytes"):
        return wire.length_field(
            number, rng.choice(_TEXTS) if what == "text" else rng.randbytes(rng.choice((0, 1, 4, 8, 16, 24)))
        )
    if what == "enum":
        return wire.varint_field(
            number, rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 17, 18, 19, 22, 23, 27, rng.randrange(30)))
        )
    counts = (0, 1, 1, 2, 2, 2, 3, rng.randrange(40)) if what == "size*" else (0, 1, 1, 2, 3, 4, 6, 60)
    kind, values = _values(rng, what.rstrip("*"), rng.choice(counts) if what.endswith("*") else 1)
    if what.endswith("*") and rng.random() < 0.8:
        return wire.length_field(number, b"".join(values))
    return b"".join(wire.varint(number << 3 | kind) + value for value in values)


def _values(rng: Random, what: str, count: int) -> tuple[int, list[bytes]]:
    if what == "f32":
        return wire.FIXED32, [struct.pack("<f", rng.choice(_FLOATS)) for _ in range(count)]
    if what == "f64":
        return wire.FIXED64, [struct.pack("<d", rng.choice(_FLOATS)) for _ in range(count)]
    if what == "size":
        return wire.VARINT, [wire.varint(rng.choice((-1, -1, 0, 1, 1, 2, 2, 3, 4, 1 << 62, -2))) for _ in range(count)]
    if what == "half":
        pool = [rng.randrange(1 << 16) for _ in range(4)] if rng.random() < 0.9 else _EDGES
        return wire.VARINT, [wire.varint(rng.choice(pool)) for _ in range(count)]
    choice = rng.random()
    pool = _SMALL_INTS if choice < 0.5 else _EDGES[:9] if choice < 0.7 else _EDGES
    return wire.VARINT, [_padded(rng, wire.varint(rng.choice(pool))) for _ in range(count)]


def _padded(rng: Random, varint: bytes) -> bytes:
    """The same number in more bytes than it needs, now and then."""
    if rng.random() > 0.03:
        return varint
    return varint[:-1] + bytes([varint[-1] | 0x80]) + b"\x80" * rng.randrange(3) + rng.choice((b"\0", b"\1"))


def _stranger(rng: Random) -> bytes:
    """A field that no schema has, or one it has in another wire type."""
    number = rng.choice((1, 2, 3, 5, 7, 8, 14, 99, 1000, wire.MAX_FIELD))
    kind = rng.choice((0, 1, 2, 3, 5))
    payload = {0: wire.varint(rng.choice(_EDGES)), 1: rng.randbytes(8), 2: b"\3abc", 5: rng.randbytes(4)}.get(kind)
    if payload is None:
        payload = b"".join(_stranger(rng) for _ in range(rng.randrange(2))) + wire.varint(number << 3 | wire.END_GROUP)
    return wire.varint(number << 3 | kind) + payload


# Mutations ----------------------------------------------------------------------------------------------------------


def mutate(rng: Random, data: bytes) -> bytes:
    """One change somewhere, most often inside nested messages whose lengths are then right again."""
    if rng.random() < 0.3:
        return _mutate_bytes(rng, data)
    try:
        pieces = _split(data)
    except wire.WireError:
        return _mutate_bytes(rng, data)
    if not pieces:
        return _mutate_bytes(rng, data)
    at = rng.randrange(len(pieces))
    tag, payload = pieces[at]
    choice = rng.random()
    if choice < 0.75 and tag & 7 == wire.LENGTH:
        pieces[at] = tag, mutate(rng, payload)
    elif choice < 0.80:
        pieces.insert(rng.randrange(len(pieces) + 1), pieces[at])
    elif choice < 0.85:
        del pieces[at]
    elif choice < 0.90:
        pieces[at] = rng.choice((tag & 7 | rng.randrange(1, 30) << 3, tag & ~7 | rng.randrange(8))), payload
    elif choice < 0.95:
        other = rng.randrange(len(pieces))
        pieces[at], pieces[other] = pieces[other], pieces[at]
    else:
        pieces[at] = tag, _mutate_bytes(rng, payload)
    return b"".join([_joined(*piece) for piece in pieces])


def _split(data: bytes) -> list[tuple[int, bytes]]:
    return [
        (number << 3 | kind, wire.varint(start) if kind == wire.VARINT else data[start:end])
        for number, kind, start, end in wire.fields(data)
    ]


def _joined(tag: int, payload: bytes) -> bytes:
    return wire.varint(tag) + (wire.varint(len(payload)) + payload if tag & 7 == wire.LENGTH else payload)


def _mutate_bytes(rng: Random, data: bytes) -> bytes:
    choice = rng.randrange(6)
    at = rng.randrange(len(data) + 1)
    if choice == 0:
        return data[:at] + rng.randbytes(rng.choice((1, 1, 2, 4))) + data[at:]
    if choice == 1:
        return data[:at] + data[at + rng.choice((1, 1, 2, 4, 8)) :]
    if choice == 2:
        return data[:at]
    if choice == 3:
        return data[:at] + data[at : at + 8] * rng.choice((2, 2, 3, 40)) + data[at + 8 :]
    byte = rng.choice((0, 1, 0x7F, 0x80, 0xFF)) if choice == 4 or not data else data[at - 1] ^ 1 << rng.randrange(8)
    return data[:at] + bytes([byte]) + data[at + 1 :]
