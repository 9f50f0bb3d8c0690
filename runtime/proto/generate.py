"""Compiles runtime/proto into the descriptor sets that the runtime loads: `make gen` writes them, `make generated` checks them.

One import root for each era, because the same full names changed shape between eras; a root lists only what differs from the
next newer one, which stands behind it on the import path.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

HERE = Path(__file__).parent
OUTPUT = HERE.parent / "model_runtime" / "protos"
ROOTS = {  # era, or other protocol: the import path of its files
    "v0.0.5": ("v0.0.5", "v2"),
    "v0": ("v0", "v2"),
    "v2": ("v2",),
    "v3": ("v3",),
    "open_inference": ("open_inference",),
    "served": ("served", "v2", "v3", "open_inference"),
}


def main() -> int:
    check = sys.argv[1:] == ["--check"]
    stale = [path for path, content in _outputs() if not _is_current(path, content, write=not check)]
    if check and stale:
        names = ", ".join(path.name for path in stale)
        print(
            f"generated from runtime/proto and not up to date: {names}\nrun `make gen` and commit the result",
            file=sys.stderr,
        )
        return 1
    return 0


def _outputs() -> Iterator[tuple[Path, bytes]]:
    for era, roots in ROOTS.items():
        yield OUTPUT / f"{era}.binpb", _compiled([HERE / root for root in roots], list(files(era)))


def files(era: str) -> Iterator[str]:
    """The files that make an era: its own, and those of the roots behind it that nothing of its own replaces."""
    own = {str(path.relative_to(HERE / root)) for root in ROOTS[era] for path in (HERE / root).rglob("*.proto")}
    if era in ("v0", "v0.0.5"):
        own.discard("hydro_serving_grpc/contract/data_profile_types.proto")  # profiles came with 2.0
    yield from sorted(own)


def _compiled(roots: list[Path], names: list[str]) -> bytes:
    well_known = resources.files("grpc_tools") / "_proto"
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "set.binpb"
        paths = [f"-I{root}" for root in roots]
        arguments = ["protoc", *paths, f"-I{well_known}", "--include_imports", f"--descriptor_set_out={target}", *names]
        if protoc.main(arguments) != 0:
            sys.exit(1)
        described = descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes())
    for file in described.file:
        for message in file.message_type:
            _strip(message)
    return described.SerializeToString(deterministic=True)


def _strip(message: descriptor_pb2.DescriptorProto) -> None:
    """JSON names are derived; some versions of protoc write them and some do not."""
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        _strip(nested)


def _is_current(path: Path, content: bytes, *, write: bool) -> bool:
    current = path.is_file() and path.read_bytes() == content
    if write and not current:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        print(f"wrote {path.name}")
    return current


if __name__ == "__main__":
    sys.exit(main())
