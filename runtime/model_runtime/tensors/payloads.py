"""The repeated numbers of one message while it is read: where they stand, or what they are if they come in several pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Dict, Tuple, Union

from .. import wire
from . import numerics, runs
from .tensor import ValueField

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Between two offsets of the message, or, come in several pieces, joined.
_Payload = Union[Tuple[int, int], bytearray]


class Payloads:
    """What a message in `data` holds of the fields in FIELDS."""

    FIELDS: ClassVar[Dict[int, ValueField]]
    __slots__ = ("budget", "data", "payloads")

    def __init__(self, data: wire.Buffer, budget: wire.Budget) -> None:
        self.data, self.budget = data, budget
        self.payloads: Dict[int, _Payload] = {}

    def add_packed(self, number: int, start: int, end: int) -> None:
        """Values of a field, all in one payload."""
        if start == end:
            return
        field = self.FIELDS[number]
        if (end - start) % field.width if field.width else self.data[end - 1] >= 0x80:
            raise wire.WireError(f"packed {field.name} cut within a value at offset {end}")
        if number in self.payloads:
            self._join(number, self.data[start:end])
        else:
            self.payloads[number] = start, end

    def add_single(self, number: int, kind: int, value: int, end: int) -> None:
        """One value of a field, outside a packed payload."""
        self.budget.left -= 1
        self._join(number, wire.varint(value) if kind == wire.VARINT else self.data[value:end])

    def add_run(self, number: int, kind: int, at: int, end: int) -> int:
        """The values of the same field that stand one by one from `at` on, all at once. Returns where they end."""
        tag = wire.varint(number << 3 | kind)
        behind = at + len(tag)
        if behind >= end or self.data[at:behind] != tag:
            return at
        width = self.FIELDS[number].width
        for piece, stop in (
            runs.fixed(self.data, at, end, tag, width) if width else runs.varints(self.data, at, end, tag)
        ):
            self._join(number, piece)
            at = stop
        self.budget.spend(runs.PARTS)
        return at

    def _join(self, number: int, piece: wire.Buffer) -> None:
        joined = self.payloads.get(number, b"")
        if not isinstance(joined, bytearray):
            joined = self.payloads[number] = bytearray(self.data[slice(*joined)] if joined else b"")
        joined += piece

    def numbers(self) -> Dict[int, NDArray[Any]]:
        """All of them, whatever the tensor's type wants: protobuf refuses a message for any broken varint in it."""
        found = {}
        for number, payload in self.payloads.items():
            where = (payload, 0, len(payload)) if isinstance(payload, bytearray) else (self.data, *payload)
            found[number] = numerics.of_field(self.FIELDS[number], *where)
        return found
