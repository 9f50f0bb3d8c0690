"""The YAML documents of a file, as plain mappings. Bounds what a file may cost: bytes, nesting and what its aliases repeat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..errors import SourceError
from . import files

MAX_BYTES = 32 * files.MIB  # a Kubernetes API server takes 3 MiB for one object
MAX_NODES = 1_000_000  # of one document, with each alias counted as a copy


def read(file: Path) -> list[Mapping[str, Any]]:
    """Returns the documents that are not empty. Raises SourceError where the file holds anything but mappings."""
    try:
        return list(_documents(file, files.read(file, MAX_BYTES).decode("utf-8")))
    except OSError as error:
        raise SourceError(f"{file}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that does not exist
        raise SourceError(f"{file}: expected YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise SourceError(f"{file}: expected YAML that is not nested this deeply") from None


def _documents(file: Path, text: str) -> Iterator[Mapping[str, Any]]:
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is not None and _size(node, {}) > MAX_NODES:
                raise SourceError(f"{file}: expected at most {MAX_NODES} YAML nodes with aliases resolved, got more")
            document = loader.construct_document(node)
            if isinstance(document, Mapping):
                yield document
            elif document is not None:
                raise SourceError(f"{file}: expected YAML objects, got {type(document).__name__}")
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Returns the number of nodes below `node`, each alias counted as a copy; an alias of itself counts as too many."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = MAX_NODES + 1
    below = [each for pair in node.value for each in pair] if isinstance(node, yaml.MappingNode) else node.value
    known[id(node)] = 1 + (sum(_size(each, known) for each in below) if isinstance(below, list) else 0)
    return known[id(node)]
