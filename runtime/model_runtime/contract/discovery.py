"""`model_runtime.v1.ContractService/GetContract`: how a client asks a running model what it promises.

Ours alone: no era of Hydrosphere could be asked. The answer is {1: repeated hydrosphere.serving.contract.ModelSignature}, v3's
messages under their true names, so that reflection shows them.
"""

from __future__ import annotations

from .. import wire
from ..errors import ContractError
from . import binary
from .model import Contract

SERVICE = "model_runtime.v1.ContractService"
PATH = f"/{SERVICE}/GetContract"


def write(contract: Contract) -> bytes:
    """The answer's bytes."""
    signatures = (binary.write(Contract((signature,)), "v3") for signature in contract.signatures)
    return b"".join(wire.length_field(1, signature) for signature in signatures)


def read(data: bytes) -> Contract:
    """The contract in an answer. Raises ContractError."""
    try:
        items = [
            data[start:end] for number, kind, start, end in wire.fields(data) if (number, kind) == (1, wire.LENGTH)
        ]
    except wire.WireError as error:
        raise ContractError(f"the answer holds no contract: {error}") from None
    return Contract(tuple(binary.read(item).signatures[0] for item in items))
