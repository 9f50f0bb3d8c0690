"""Server reflection: the files that describe every service of the port, found by name, symbol or extension.

Pure: bytes in, bytes out, no gRPC and no descriptor pool. v1 and v1alpha have the same messages; one object answers both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .. import wire

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
METHOD = "ServerReflectionInfo"
MAX_REQUEST_BYTES = 16_384  # the longest question is a name; it is repeated in the answer

_INVALID_ARGUMENT, _NOT_FOUND = 3, 5  # google.rpc.Code
# ServerReflectionRequest
_FILE, _SYMBOL, _EXTENSION, _EXTENSION_NUMBERS, _LIST = 3, 4, 5, 6, 7
# ServerReflectionResponse
_HOST, _REQUEST, _FILES_ANSWER, _NUMBERS_ANSWER, _LIST_ANSWER, _ERROR_ANSWER = 1, 2, 4, 5, 6, 7


class Reflection:
    """An index over descriptor files, each of which follows the files it imports."""

    def __init__(self, files: Iterable[FileDescriptorProto]) -> None:
        self._bytes: dict[str, bytes] = {}
        self._imports: dict[str, list[str]] = {}
        self._symbols: dict[str, str] = {}  # full name: its file
        self._messages: set[str] = set()
        self._extensions: dict[str, dict[int, str]] = {}  # extended message: number: file
        self.services: list[str] = []
        for file in files:
            self._add(file)

    def answer(self, request: bytes) -> bytes:
        """The ServerReflectionResponse to a ServerReflectionRequest. Raises wire.WireError for bytes that are none."""
        if len(request) > MAX_REQUEST_BYTES:
            raise wire.WireError(f"expected at most {MAX_REQUEST_BYTES} bytes, got {len(request)}")
        host, asked = b"", (0, b"")
        for number, kind, start, end in wire.fields(request):
            if kind == wire.LENGTH and number == 1:
                host = request[start:end]
            elif kind == wire.LENGTH and number <= _LIST:
                asked = number, request[start:end]
        repeated = (wire.length_field(_HOST, host) if host else b"") + wire.length_field(_REQUEST, request)
        return repeated + self._answered(*asked)

    def _answered(self, kind: int, asked: bytes) -> bytes:
        if kind == _LIST:
            names = (wire.length_field(1, name.encode()) for name in sorted(self.services))
            return wire.length_field(_LIST_ANSWER, b"".join(wire.length_field(1, name) for name in names))
        if kind == _EXTENSION:
            return self._files(self._extension(asked))
        name = wire.read_text(asked, 0, len(asked))
        if kind == _FILE:
            return self._files(name if name in self._bytes else None)
        if kind == _SYMBOL:
            return self._files(self._symbols.get(name))
        if kind == _EXTENSION_NUMBERS:
            return self._extension_numbers(name)
        return _error(_INVALID_ARGUMENT, "expected a file, symbol, extension or list_services to be asked for")

    def _files(self, name: str | None) -> bytes:
        """The file and everything that it imports."""
        if name is None:
            return _error(_NOT_FOUND, "not found")
        found: dict[str, None] = {}
        left = [name]
        while left:
            file = left.pop()
            if file not in found:
                found[file] = None
                left += self._imports[file]
        return wire.length_field(_FILES_ANSWER, b"".join(wire.length_field(1, self._bytes[file]) for file in found))

    def _extension(self, asked: bytes) -> str | None:
        """The file that extends an ExtensionRequest's {1: message} with the field {2: number}."""
        message, extension = "", 0
        for number, kind, start, end in wire.fields(asked):
            if (number, kind) == (1, wire.LENGTH):
                message = wire.read_text(asked, start, end)
            elif (number, kind) == (2, wire.VARINT):
                extension = start
        return self._extensions.get(message, {}).get(extension)

    def _extension_numbers(self, message: str) -> bytes:
        if message not in self._messages:
            return _error(_NOT_FOUND, "not found")
        numbers = b"".join(map(wire.varint, sorted(self._extensions.get(message, ()))))
        told = wire.length_field(1, message.encode()) + (wire.length_field(2, numbers) if numbers else b"")
        return wire.length_field(_NUMBERS_ANSWER, told)

    # The index ----------------------------------------------------------------------------------------------------

    def _add(self, file: FileDescriptorProto) -> None:
        self._bytes[file.name] = file.SerializeToString()
        self._imports[file.name] = list(file.dependency)
        prefix = f"{file.package}." if file.package else ""
        for service in file.service:
            self.services.append(prefix + service.name)
        for symbol in _symbols(file, prefix):
            self._symbols[symbol] = file.name
        for message, name in _messages(file.message_type, prefix):
            self._messages.add(name)
            for extension in message.extension:
                self._extensions.setdefault(extension.extendee[1:], {})[extension.number] = file.name
        for extension in file.extension:
            self._extensions.setdefault(extension.extendee[1:], {})[extension.number] = file.name


def _symbols(file: FileDescriptorProto, prefix: str) -> Iterator[str]:
    """The full name of everything that a file defines."""
    for service in file.service:
        yield prefix + service.name
        yield from (f"{prefix}{service.name}.{method.name}" for method in service.method)
    yield from (prefix + enum.name for enum in file.enum_type)
    yield from (prefix + value.name for enum in file.enum_type for value in enum.value)
    yield from (prefix + extension.name for extension in file.extension)
    for message, name in _messages(file.message_type, prefix):
        yield name
        yield from (f"{name}.{field.name}" for field in (*message.field, *message.extension))
        yield from (f"{name}.{oneof.name}" for oneof in message.oneof_decl)
        yield from (f"{name}.{enum.name}" for enum in message.enum_type)
        yield from (f"{name}.{value.name}" for enum in message.enum_type for value in enum.value)


def _messages(messages: Iterable[DescriptorProto], prefix: str) -> Iterator[tuple[DescriptorProto, str]]:
    """Each message with its full name, nested ones included."""
    for message in messages:
        yield message, prefix + message.name
        yield from _messages(message.nested_type, f"{prefix}{message.name}.")


def _error(code: int, text: str) -> bytes:
    return wire.length_field(_ERROR_ANSWER, wire.varint_field(1, code) + wire.length_field(2, text.encode()))
