"""What a model must answer before it serves: golden requests stored beside it, or one made up from its contract."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import numpy as np

from .. import synthesis, tensors
from ..contract import Signature
from ..errors import PredictionError, Violation, WarmupFailed
from ..prediction import Predictor
from ..tensors import ERAS, Request, Tensor
from . import values
from .service import RuntimeService

GOLDEN_FILE = (
    "warmup.json"  # in the model directory or in its files: [{"inputs": {…}, "outputs": {…}, "signature": "…"}, …]
)
_ERA = ERAS["v2"]  # it can name a signature
_CLOSE = 1e-5


def warm_up(predictor: Predictor, service: RuntimeService) -> None:
    """Asks the model. Raises WarmupFailed with the first request that it cannot answer, or answers otherwise than was stored."""
    for signature, inputs, expected in _requests(service):
        encoded = tensors.encode_request(_ERA, Request(inputs, signature.name))
        try:
            answer = tensors.decode_response(_ERA, predictor.handle(_ERA.predict, encoded))
        except PredictionError as error:
            raise WarmupFailed(f"the model cannot answer its warm-up request: {error}") from error
        differing = [name for name, tensor in expected.items() if not _is_close(answer[name], tensor)]
        if differing:
            raise WarmupFailed(
                f"the model answers its golden request otherwise than was stored: {', '.join(differing)}"
            )


def _requests(service: RuntimeService) -> Iterator[Tuple[Signature, Dict[str, Tensor], Dict[str, Tensor]]]:
    for folder in (service.directory.path, service.directory.files):
        file = folder / GOLDEN_FILE
        if file.is_file():
            yield from (_golden(service, str(file), entry) for entry in _entries(file.read_bytes(), str(file)))
            return
    for signature in service.contract.signatures:
        yield signature, synthesis.inputs(signature.inputs), {}


def _entries(data: bytes, file: str) -> List[Mapping[str, Any]]:
    try:
        read = json.loads(data.decode("utf-8"))
    except ValueError as error:
        raise WarmupFailed(f"{file}: expected JSON: {error}") from None
    entries = read if isinstance(read, list) else [read]
    if not all(isinstance(entry, dict) and isinstance(entry.get("inputs"), dict) for entry in entries):
        raise WarmupFailed(f'{file}: expected objects with "inputs" (and "outputs", "signature")')
    return entries


def _golden(
    service: RuntimeService, file: str, entry: Mapping[str, Any]
) -> Tuple[Signature, Dict[str, Tensor], Dict[str, Tensor]]:
    signature = service.contract.signature(str(entry.get("signature", "")))
    if signature is None:
        raise WarmupFailed(f"{file}: the contract has no signature {entry.get('signature')!r}")
    violations: List[Violation] = []
    inputs = values.returned(signature.inputs, entry["inputs"], "inputs", violations)
    stored = entry.get("outputs") or {}
    declared = tuple(field for field in signature.outputs if field.name in stored)
    expected = values.returned(declared, stored, "outputs", violations)
    if violations:
        raise WarmupFailed(f"{file}: {'; '.join(map(str, violations))}")
    return signature, inputs, expected


def _is_close(got: Tensor, expected: Tensor) -> bool:
    if got.shape != expected.shape:
        return False
    if got.values.dtype.kind in "fc":
        return bool(np.allclose(got.values, expected.values, rtol=_CLOSE, atol=_CLOSE, equal_nan=True))
    return bool(np.array_equal(got.values, expected.values))
