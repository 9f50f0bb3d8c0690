"""The wire messages of every era under their true names, each era in a descriptor pool of its own.

Nothing here enters protobuf's default pool: a model, or a client beside us, may import Hydrosphere's or TensorFlow's own stubs.
The descriptor sets beside this file are generated from runtime/proto. Needs protobuf (3.20 - 7), and only when it is called:
a model's environment may have an old one, or none.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Type

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message import Message

ERAS = ("v0.0.5", "v0", "v2", "v3")


def message(era: str, full_name: str) -> Type[Message]:
    """The class of one message, such as `message("v2", "hydrosphere.tensorflow.TensorProto")`. The same class each time.

    Beside the eras there is "open_inference", and "served", which is everything that one port of the runtime answers.
    """
    return _class(pool(era).FindMessageTypeByName(full_name))


def files(era: str) -> List[FileDescriptorProto]:
    """The files of an era, each after those it imports."""
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    described = FileDescriptorSet.FromString((Path(__file__).parent / f"{era}.binpb").read_bytes())
    return list(described.file)


@lru_cache(maxsize=None)
def pool(era: str) -> DescriptorPool:
    """The pool of an era, of "open_inference", or of "served"."""
    return _pool(files(era))


def reflection_files() -> List[FileDescriptorProto]:
    """What server reflection shows: every service of the port, health, and the details of errors (google.rpc)."""
    from google.protobuf import any_pb2, duration_pb2
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.rpc import error_details_pb2, status_pb2
    from grpc_health.v1 import health_pb2

    modules = (any_pb2, duration_pb2, health_pb2, error_details_pb2, status_pb2)
    others = [FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb) for module in modules]
    return list({file.name: file for file in (*files("served"), *others)}.values())


def _pool(described: List[FileDescriptorProto]) -> DescriptorPool:
    from google.protobuf.descriptor_pool import DescriptorPool

    made = DescriptorPool()
    for file in described:
        made.Add(file)
    return made


def _class(descriptor: Any) -> Type[Message]:
    from google.protobuf import message_factory

    if hasattr(message_factory, "GetMessageClass"):  # since 4.22
        return message_factory.GetMessageClass(descriptor)
    made = message_factory.MessageFactory(descriptor.file.pool).GetPrototype(descriptor)  # type: ignore[attr-defined]
    for nested in descriptor.nested_types:  # old protobuf leaves `TensorShapeProto.Dim` to generated code
        setattr(made, nested.name, _class(nested))
    return made  # type: ignore[no-any-return]
