"""The data types and profiles of a contract: numbers on the wire, names in YAML, and the numpy kind each is held in.

Numbers and names are Hydrosphere's, the same in all eras (MAP is Hydrosphere's own, ANY is v3's). Knows no field and no bytes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Dict, Tuple


class DataType(IntEnum):
    """`DataType` of every era. The value is the number on the wire."""

    INVALID = 0
    FLOAT = 1
    DOUBLE = 2
    INT32 = 3
    UINT8 = 4
    INT16 = 5
    INT8 = 6
    STRING = 7
    COMPLEX64 = 8
    INT64 = 9
    BOOL = 10
    QINT8 = 11
    QUINT8 = 12
    QINT32 = 13
    BFLOAT16 = 14
    QINT16 = 15
    QUINT16 = 16
    UINT16 = 17
    COMPLEX128 = 18
    HALF = 19
    RESOURCE = 20
    VARIANT = 21
    UINT32 = 22
    UINT64 = 23
    ANY = 24
    MAP = 27

    @property
    def label(self) -> str:
        """The name in YAML and in every message to a person: `float32`, `double`, `int64`, …"""
        return _LABELS[self]

    @property
    def numpy(self) -> Tuple[str, int]:
        """The numpy kind and item size in bytes that hold it; ("U", 0) for text of any width, ("", 0) for none.

        numpy has no quantised integers and no bfloat16: the former are held in the integers below them, the latter in float32.
        """
        return _NUMPY.get(self, ("", 0))


class Profile(IntEnum):
    """`DataProfileType` of every era: what a field means to monitoring, not how it is carried."""

    NONE = 0
    CATEGORICAL = 1
    NUMERICAL = 2
    IMAGE = 3
    VIDEO = 4
    AUDIO = 5
    TEXT = 6
    NOMINAL = 11
    ORDINAL = 12
    CONTINUOUS = 21
    INTERVAL = 22
    RATIO = 23

    @property
    def label(self) -> str:
        return self.name.lower()


# String fields of these profiles carry bytes that are not text; the model receives `bytes`.
BINARY_PROFILES = frozenset({Profile.IMAGE, Profile.VIDEO, Profile.AUDIO})

_LABELS: Dict[DataType, str] = {dtype: dtype.name.lower() for dtype in DataType}
_LABELS[DataType.FLOAT] = "float32"

_NUMPY: Dict[DataType, Tuple[str, int]] = {
    DataType.FLOAT: ("f", 4),
    DataType.DOUBLE: ("f", 8),
    DataType.HALF: ("f", 2),
    DataType.BFLOAT16: ("f", 4),
    DataType.INT8: ("i", 1),
    DataType.INT16: ("i", 2),
    DataType.INT32: ("i", 4),
    DataType.INT64: ("i", 8),
    DataType.UINT8: ("u", 1),
    DataType.UINT16: ("u", 2),
    DataType.UINT32: ("u", 4),
    DataType.UINT64: ("u", 8),
    DataType.QINT8: ("i", 1),
    DataType.QINT16: ("i", 2),
    DataType.QINT32: ("i", 4),
    DataType.QUINT8: ("u", 1),
    DataType.QUINT16: ("u", 2),
    DataType.BOOL: ("b", 1),
    DataType.COMPLEX64: ("c", 8),
    DataType.COMPLEX128: ("c", 16),
    DataType.STRING: ("U", 0),
    DataType.MAP: ("O", 0),
}

# Every name that hs, hydrosdk, numpy or the protos give a type. hydrosdk's `float` is DOUBLE and its `int` is INT64.
_ALIASES: Dict[str, DataType] = {
    "str": DataType.STRING,
    "float16": DataType.HALF,
    "single": DataType.FLOAT,
    "float64": DataType.DOUBLE,
    "float": DataType.DOUBLE,
    "byte": DataType.INT8,
    "short": DataType.INT16,
    "int": DataType.INT64,
    "ubyte": DataType.UINT8,
    "ushort": DataType.UINT16,
    "complex": DataType.COMPLEX128,
}
TYPES_BY_NAME: Dict[str, DataType] = {
    **{dtype.label: dtype for dtype in DataType if dtype is not DataType.INVALID},
    **{f"dt_{dtype.name.lower()}": dtype for dtype in DataType if dtype is not DataType.INVALID},
    **_ALIASES,
}
# `oridnal` is how the protos of 0.1.16 - 0.2.3 spelt it.
PROFILES_BY_NAME: Dict[str, Profile] = {**{profile.label: profile for profile in Profile}, "oridnal": Profile.ORDINAL}
