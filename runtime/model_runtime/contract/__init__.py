"""The contract of a model: what it is (`model`), its bytes (`binary`), its YAML (`notation`), whether arrays keep it (`check`),
and what breaks when it changes (`compare`).

Standard library only: the operator writes contracts with it and the model process reads them. Never here: tensors' bytes, gRPC.
"""

from __future__ import annotations

from .binary import read, write
from .check import check
from .compare import compare
from .model import Contract, Field, Shape, Signature
from .notation import format, parse
from .types import DataType, Profile

# The layout of a model directory, known to whoever builds one and whoever serves one.
CONTRACT_FILE = "contract.protobin"
FILES_DIR = "files"
ENTRY_MODULE = "func_main"
DEFAULT_MODEL_DIR = "/model"
DEFAULT_PORT = 9090

__all__ = [
    "CONTRACT_FILE",
    "DEFAULT_MODEL_DIR",
    "DEFAULT_PORT",
    "ENTRY_MODULE",
    "FILES_DIR",
    "Contract",
    "DataType",
    "Field",
    "Profile",
    "Shape",
    "Signature",
    "check",
    "compare",
    "format",
    "parse",
    "read",
    "write",
]
