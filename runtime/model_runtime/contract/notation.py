"""serving.yaml's contract notation to and from a Contract. Works on what a YAML parser returns; reads no file itself.

name: predict                # or, as in 0.x, a map of signature names to {inputs, outputs}
inputs:
  pixels: {shape: [-1, 64], type: double, profile: numerical}
outputs:
  person: {shape: scalar, fields: {name: {shape: scalar, type: string}, age: {shape: scalar, type: int32}}}
"""

from __future__ import annotations

import difflib
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from ..errors import ContractError, Violation
from .model import MAX_DEPTH, Contract, Field, Shape, Signature
from .types import PROFILES_BY_NAME, TYPES_BY_NAME, DataType, Profile

DEFAULT_SIGNATURE = "predict"  # as hs 3 names it
DEFAULT_MODEL_NAME = "model"  # as hs 2 writes it, always

_SIGNATURE_KEYS = ("name", "inputs", "outputs")
_FIELD_KEYS = ("shape", "type", "profile", "fields")


def parse(notation: Any) -> Contract:
    """The contract that the notation describes. Raises ContractError with every violation at once, each with its path."""
    violations: List[Violation] = []
    signatures = _parse_signatures(notation, violations)
    if violations:
        raise ContractError("the contract cannot be read", violations)
    return Contract(tuple(signatures), DEFAULT_MODEL_NAME)


def format(contract: Contract) -> Dict[str, Any]:
    """The notation of a contract; `parse(format(contract))` has the same signatures."""
    if len(contract.signatures) == 1:
        return _format_signature(contract.signatures[0])
    return {signature.name: _without_name(_format_signature(signature)) for signature in contract.signatures}


# Parsing: each function returns what it could read and appends what it could not ----------------------------------


def _parse_signatures(notation: Any, violations: List[Violation]) -> List[Signature]:
    if not _is_mapping("contract", notation, violations):
        return []
    if not _looks_like_many(notation):
        return [_parse_signature("contract", notation, None, violations)]
    return _parse_many(notation, violations)


def _parse_many(notation: Mapping[Any, Any], violations: List[Violation]) -> List[Signature]:
    return [
        _parse_signature(f"contract.{name}", signature, name, violations)
        for name, signature in notation.items()
        if _is_name(f"contract.{name}", name, violations) and _is_mapping(f"contract.{name}", signature, violations)
    ]


def _looks_like_many(notation: Mapping[Any, Any]) -> bool:
    """0.x's map of signatures: a value with inputs or outputs of its own. A signature may itself be called inputs or outputs."""
    if "inputs" in notation or "outputs" in notation:
        wrong: List[Violation] = []
        _parse_many(notation, wrong)
        return not wrong
    return any(isinstance(value, Mapping) and ("inputs" in value or "outputs" in value) for value in notation.values())


def _parse_signature(
    path: str, notation: Mapping[Any, Any], name: Optional[str], violations: List[Violation]
) -> Signature:
    allowed = _SIGNATURE_KEYS if name is None else _SIGNATURE_KEYS[1:]
    _check_keys(path, notation, allowed, violations)
    if name is None:
        name = notation.get("name", DEFAULT_SIGNATURE)
        if not _is_name(f"{path}.name", name, violations):
            name = DEFAULT_SIGNATURE
    inputs = _parse_fields(f"{path}.inputs", notation.get("inputs") or {}, violations)
    if not notation.get("outputs"):
        violations.append(Violation(f"{path}.outputs", "expected at least one output, got none"))
    return Signature(str(name), inputs, _parse_fields(f"{path}.outputs", notation.get("outputs") or {}, violations))


def _parse_fields(path: str, notation: Any, violations: List[Violation], depth: int = 1) -> Tuple[Field, ...]:
    if not _is_mapping(path, notation, violations):
        return ()
    if depth > MAX_DEPTH:
        violations.append(Violation(path, f"expected at most {MAX_DEPTH} levels of nested fields"))
        return ()
    return tuple(
        _parse_field(f"{path}.{name}", name, field, violations, depth)
        for name, field in notation.items()
        if _is_name(f"{path}.{name}", name, violations) and _is_mapping(f"{path}.{name}", field, violations)
    )


def _parse_field(path: str, name: str, notation: Mapping[Any, Any], violations: List[Violation], depth: int) -> Field:
    _check_keys(path, notation, _FIELD_KEYS, violations)
    shape = _parse_shape(f"{path}.shape", notation.get("shape"), violations)
    profile = _lookup(f"{path}.profile", notation.get("profile", "none"), PROFILES_BY_NAME, Profile.NONE, violations)
    if ("fields" in notation) == ("type" in notation):
        got = "both" if "type" in notation else "neither"
        violations.append(Violation(path, f"expected a type or nested fields, got {got}"))
    if "fields" in notation:
        nested = _parse_fields(f"{path}.fields", notation["fields"], violations, depth + 1)
        if notation["fields"] == {}:
            violations.append(Violation(f"{path}.fields", "expected at least one nested field, got none"))
        return Field(name, DataType.MAP, shape, nested, profile)
    dtype = _lookup(f"{path}.type", notation.get("type", "any"), TYPES_BY_NAME, DataType.ANY, violations)
    return Field(name, dtype, shape, (), profile)


def _parse_shape(path: str, notation: Any, violations: List[Violation]) -> Optional[Shape]:
    if notation is None:
        return None
    if notation == "scalar":
        return ()
    is_shape = isinstance(notation, (list, tuple)) and all(type(dim) is int and dim >= -1 for dim in notation)
    if not is_shape:
        violations.append(
            Violation(path, f"expected 'scalar' or a list of dimensions (-1 for unknown), got {notation!r}")
        )
        return None
    return tuple(notation)


def _lookup(path: str, name: Any, table: Mapping[str, Any], default: Any, violations: List[Violation]) -> Any:
    found = table.get(name.lower()) if isinstance(name, str) else None
    if found is None:
        close = difflib.get_close_matches(str(name).lower(), table, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"one of {', '.join(_canonical(table))}"
        violations.append(Violation(path, f"unknown {path.rpartition('.')[2]} {name!r}: {hint}"))
        return default
    return found


def _canonical(table: Mapping[str, Any]) -> List[str]:
    return sorted({value.label for value in table.values()})


def _check_keys(path: str, notation: Mapping[Any, Any], allowed: Iterable[str], violations: List[Violation]) -> None:
    for key in notation:
        if key not in allowed:
            violations.append(Violation(f"{path}.{key}", f"unknown key, expected one of {', '.join(allowed)}"))


def _is_mapping(path: str, notation: Any, violations: List[Violation]) -> bool:
    if not isinstance(notation, Mapping):
        violations.append(Violation(path, f"expected a mapping, got {notation!r}"))
        return False
    return True


def _is_name(path: str, name: Any, violations: List[Violation]) -> bool:
    """YAML 1.1 reads an unquoted `on`, `no` or `1` as something other than text."""
    if not isinstance(name, str) or not name:
        violations.append(Violation(path, f"expected a name, got {name!r} (quote it if it is meant as text)"))
        return False
    return True


# Formatting --------------------------------------------------------------------------------------------------------


def _format_signature(signature: Signature) -> Dict[str, Any]:
    return {
        "name": signature.name,
        "inputs": _format_fields(signature.inputs),
        "outputs": _format_fields(signature.outputs),
    }


def _without_name(notation: Dict[str, Any]) -> Dict[str, Any]:
    return {key: value for key, value in notation.items() if key != "name"}


def _format_fields(fields: Tuple[Field, ...]) -> Dict[str, Any]:
    return {field.name: _format_field(field) for field in fields}


def _format_field(field: Field) -> Dict[str, Any]:
    notation: Dict[str, Any] = {}
    if field.shape is not None:
        notation["shape"] = list(field.shape) or "scalar"
    if field.fields:
        notation["fields"] = _format_fields(field.fields)
    else:
        notation["type"] = field.dtype.label
    if field.profile is not Profile.NONE:
        notation["profile"] = field.profile.label
    return notation
