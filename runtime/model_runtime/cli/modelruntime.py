"""A ModelRuntime file, parsed and built into a model directory on this machine. Talks to no cluster."""

from __future__ import annotations

import base64
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .. import contract, settings
from ..contract import CONTRACT_FILE, FILES_DIR, Contract
from ..errors import ContractError, SourceError
from ..requirements import Wanted
from . import documents

KIND = "ModelRuntime"
ERAS = ("v0", "v2", "v3")
WARMUP_FILE = "warmup.json"

_LOCAL_SOURCES = ("inline", "configMap")
# Fields of the spec that mean something without a cluster.
_HONOURED = ("contract", "model", "requirements", "port", "env", "warmup", "processes", "batching")
_REMOTE_SOURCES = ("persistentVolumeClaim", "image", "http", "s3", "gcs", "azure", "hydrosphereImage")


@dataclass(frozen=True)
class ModelRuntimeFile:
    """The parsed ModelRuntime."""

    name: str
    contract: Contract
    era: str  # the form in which contract.protobin is written
    files: Mapping[str, bytes]  # path below /model/files to content
    requirements: tuple[str, ...]  # lines of them
    requirements_file: str | None  # or their path below /model/files
    warmup: bytes | None  # the content of warmup.json
    port: int | None
    environment: Mapping[str, str]  # the settings that spec's fields stand for, and spec.env, which goes before them
    ignored: tuple[str, ...]  # what the file asks for and only a cluster has

    def wanted(self, directory: Path) -> Wanted:
        """The requirements, as they stand in the model directory that was built."""
        name = self.requirements_file
        return Wanted(self.requirements, directory / FILES_DIR / name if name else None)

    def build(self, directory: Path) -> None:
        """Writes the model directory: contract.protobin, files/ and warmup.json. Other files there are not removed."""
        for path, content in self.files.items():
            file = directory / FILES_DIR / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        if self.warmup is not None:
            (directory / WARMUP_FILE).write_bytes(self.warmup)
        (directory / CONTRACT_FILE).write_bytes(contract.write(self.contract, self.era))


def read(file: Path, files_from: Path | None = None) -> ModelRuntimeFile:
    """Returns the only ModelRuntime in a YAML file. `files_from` replaces its source by a local folder. Raises SourceError."""
    found = documents.read(file)
    runtimes = [document for document in found if document.get("kind") == KIND]
    if not runtimes:
        kinds = ", ".join(str(document.get("kind")) for document in found) or "nothing"
        raise SourceError(f"{file}: expected a {KIND}, got {kinds}")
    if len(runtimes) > 1:
        raise SourceError(f"{file}: expected one {KIND}, got {len(runtimes)}")
    return _parse(file, runtimes[0], found, files_from)


def _parse(
    file: Path, document: Mapping[str, Any], found: list[Mapping[str, Any]], files_from: Path | None
) -> ModelRuntimeFile:
    spec = _mapping(file, "spec", document.get("spec"))
    parsed, era = _contract(file, spec)
    files = _folder(files_from) if files_from else _files(file, spec, found)
    if "image" not in spec and f"src/{contract.ENTRY_MODULE}.py" not in files:  # a custom image serves any files
        held = ", ".join(sorted(files)) or "nothing"
        raise SourceError(f"{file}: the model has no src/{contract.ENTRY_MODULE}.py, got {held}")
    environment, from_cluster = _environment(file, spec)
    return ModelRuntimeFile(
        name=_name(file, _mapping(file, "metadata", document.get("metadata"))),
        contract=parsed,
        era=era,
        files=files,
        **_requirements(file, spec, files),
        warmup=_warmup_request(file, spec),
        port=_port(file, spec),
        environment={**_settings(file, spec), **environment},
        ignored=(*_ignored(file, spec), *from_cluster),
    )


def _name(file: Path, metadata: Mapping[str, Any]) -> str:
    name = metadata.get("name", file.stem)
    if not isinstance(name, str) or not name or "/" in name or "\0" in name:
        raise SourceError(f"{file}: metadata.name: expected a DNS label, got {name!r}")
    return name


def _ignored(file: Path, spec: Mapping[str, Any]) -> list[str]:
    """Returns the other fields of the spec. One that looks like a field that counts here is a mistake, not ignored."""
    others = [str(key) for key in spec if key not in _HONOURED]
    for key in others:
        if hint := difflib.get_close_matches(key, _HONOURED, n=1, cutoff=0.75):
            raise SourceError(f"{file}: spec.{key}: no such field, did you mean {hint[0]!r}?")
    return [f"spec.{key}" for key in others]


# Settings -------------------------------------------------------------------------------------------------------------


def _settings(file: Path, spec: Mapping[str, Any]) -> dict[str, str]:
    """Returns the runtime's settings that fields of the spec stand for, as the operator sets them for a pod."""
    batching = _mapping(file, "spec.batching", spec.get("batching") or {})
    warmup = _mapping(file, "spec.warmup", spec.get("warmup") or {})
    given = {
        ("processes", "MODEL_PROCESSES"): spec.get("processes"),
        ("batching.maxSize", "BATCH_MAX_SIZE"): batching.get("maxSize"),
        ("warmup.enabled", "WARMUP"): warmup.get("enabled"),
    }
    chosen = {path: (name, value) for (path, name), value in given.items() if value is not None}
    for path, (name, value) in chosen.items():
        problem = settings.problem(name, _text(value))
        if name == "BATCH_MAX_SIZE" and (problem or value == 0):  # 0 is the setting's own word for an absent field
            problem = "expected a whole number from 1 to 255"
        if problem or isinstance(value, bool) is not (name == "WARMUP") or isinstance(value, str):
            raise SourceError(f"{file}: spec.{path}: {problem or 'expected another type'}, got {value!r}")
    return {name: _text(value) for name, value in chosen.values()}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _port(file: Path, spec: Mapping[str, Any]) -> int | None:
    port = spec.get("port")
    if port is not None and (type(port) is not int or settings.problem("APP_PORT", str(port))):
        raise SourceError(f"{file}: spec.port: {settings.problem('APP_PORT', '')}, got {port!r}")
    return port


def _warmup_request(file: Path, spec: Mapping[str, Any]) -> bytes | None:
    wanted = spec.get("warmup") or {}
    request = {key: _mapping(file, f"spec.warmup.{key}", wanted[key]) for key in ("inputs", "outputs") if key in wanted}
    if "outputs" in request and "inputs" not in request:
        raise SourceError(f"{file}: spec.warmup.outputs: expected inputs too, got none")
    try:
        return json.dumps([request], sort_keys=True).encode() if request else None
    except (TypeError, ValueError) as error:  # dates and binary values of YAML; keys of several types
        raise SourceError(f"{file}: spec.warmup: expected values that JSON has: {error}") from None


def _environment(file: Path, spec: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Returns spec.env: what can be known here, and the names of what only a cluster knows."""
    known: dict[str, str] = {}
    unknown: list[str] = []
    for index, item in enumerate(_list(file, "spec.env", spec.get("env"))):
        path = f"spec.env[{index}]"
        variable = _mapping(file, path, item)
        name, value = variable.get("name"), variable.get("value", "")
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise SourceError(f"{file}: {path}.name: expected the name of a variable, got {name!r}")
        if not isinstance(value, str) or "\0" in value:
            raise SourceError(f"{file}: {path}.value: expected text (numbers in quotes), got {value!r}")
        if "valueFrom" in variable:
            unknown.append(f"spec.env {name} (its value is in the cluster; set {name} here yourself)")
        else:
            known[name] = value
    return known, unknown


# Contract and files ---------------------------------------------------------------------------------------------------


def _list(file: Path, path: str, value: Any) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise SourceError(f"{file}: {path}: expected a list, got {value!r}")
    return value or []


def _mapping(file: Path, path: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SourceError(f"{file}: {path}: expected a mapping, got {'nothing' if value is None else repr(value)}")
    return value


def _contract(file: Path, spec: Mapping[str, Any]) -> tuple[Contract, str]:
    notation = dict(_mapping(file, "spec.contract", spec.get("contract")))
    era = notation.pop("era", "v2")
    if era not in ERAS:
        raise SourceError(f"{file}: spec.contract.era: expected {', '.join(ERAS)}, got {era!r}")
    try:
        if notation.get("fromModel"):
            raise SourceError(
                f"{file}: spec.contract.fromModel: the contract is in the model's source, which is in the cluster"
            )
        if "signatures" in notation:  # 0.x's map of them, where a CRD can have it
            return contract.parse(notation["signatures"]), era
        if "protobin" in notation:
            return contract.read(base64.b64decode(str(notation["protobin"]), validate=True)), era
        return contract.parse(notation), era
    except ValueError as error:  # of which binascii.Error is one
        raise SourceError(f"{file}: spec.contract.protobin: expected base64: {error}") from None
    except ContractError as error:
        raise SourceError(f"{file}: {error}") from None


def _files(file: Path, spec: Mapping[str, Any], documents: list[Mapping[str, Any]]) -> dict[str, bytes]:
    source = _mapping(file, "spec.model", spec.get("model"))
    if len(source) != 1:
        raise SourceError(
            f"{file}: spec.model: expected exactly one source, got {', '.join(map(str, source)) or 'none'}"
        )
    [(kind, value)] = source.items()
    if kind == "inline":
        inline = _mapping(file, "spec.model.inline", value)
        return {_safe(file, path): _bytes(file, f"spec.model.inline.{path}", text) for path, text in inline.items()}
    if kind == "configMap":
        return _config_map_files(file, _mapping(file, "spec.model.configMap", value), documents)
    if kind in _REMOTE_SOURCES:
        raise SourceError(f"{file}: the source {kind} is in the cluster; give the model's files with --files DIR")
    hint = difflib.get_close_matches(str(kind), _LOCAL_SOURCES + _REMOTE_SOURCES, n=1)
    raise SourceError(
        f"{file}: spec.model: no source is called {kind!r}" + (f", did you mean {hint[0]!r}?" if hint else "")
    )


def _config_map_files(file: Path, source: Mapping[str, Any], found: list[Mapping[str, Any]]) -> dict[str, bytes]:
    name = source.get("name")
    content = next((_content(file, document) for document in found if _is_config_map(document, name)), None)
    if content is None:
        raise SourceError(
            f"{file}: the ConfigMap {name!r} is not in this file; add it, or give the files with --files DIR"
        )
    paths = _items(file, source) or {key.replace("__", "/"): key for key in content}
    if missing := [key for key in paths.values() if key not in content]:
        raise SourceError(
            f"{file}: the ConfigMap {name!r} has no {', '.join(missing)}, only {', '.join(sorted(content))}"
        )
    return {_safe(file, path): content[key] for path, key in paths.items()}


def _items(file: Path, source: Mapping[str, Any]) -> dict[str, str]:
    """Returns path to key of the source's `items`."""
    paths: dict[str, str] = {}
    for index, listed in enumerate(_list(file, "spec.model.configMap.items", source.get("items"))):
        item = _mapping(file, f"spec.model.configMap.items[{index}]", listed)
        for field in ("key", "path"):
            if not isinstance(item.get(field), str):
                text = f"spec.model.configMap.items[{index}].{field}: expected text, got {item.get(field)!r}"
                raise SourceError(f"{file}: {text}")
        paths[item["path"]] = item["key"]
    return paths


def _is_config_map(document: Mapping[str, Any], name: Any) -> bool:
    metadata = document.get("metadata")
    return document.get("kind") == "ConfigMap" and isinstance(metadata, Mapping) and metadata.get("name") == name


def _content(file: Path, config_map: Mapping[str, Any]) -> dict[str, bytes]:
    text = _mapping(file, "data of a ConfigMap", config_map.get("data") or {})
    encoded = _mapping(file, "binaryData of a ConfigMap", config_map.get("binaryData") or {})
    try:
        binary = {str(key): base64.b64decode(str(each), validate=False) for key, each in encoded.items()}
    except ValueError as error:
        raise SourceError(f"{file}: binaryData of a ConfigMap: expected base64: {error}") from None
    return {**{str(key): _bytes(file, f"data.{key} of a ConfigMap", each) for key, each in text.items()}, **binary}


def _bytes(file: Path, path: str, value: Any) -> bytes:
    if not isinstance(value, str):
        raise SourceError(f"{file}: {path}: expected text, got {value!r:.80}")
    try:
        return value.encode()
    except UnicodeEncodeError as error:  # half a surrogate pair, as "\ud800"
        raise SourceError(f"{file}: {path}: expected Unicode text: {error}") from None


def _safe(file: Path, path: Any) -> str:
    """Returns a path that stays below the model's files; the cluster refuses the same ones."""
    parts = PurePosixPath(path).parts if isinstance(path, str) else ()
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise SourceError(f"{file}: {path!r}: expected a relative path without '..'")
    return str(path)


def _folder(folder: Path) -> dict[str, bytes]:
    if not folder.is_dir():
        raise SourceError(f"{folder}: expected a folder with the model's files (src/{contract.ENTRY_MODULE}.py, ...)")
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _requirements(file: Path, spec: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    wanted = spec.get("requirements") or []
    if isinstance(wanted, Mapping):
        name = str(wanted.get("file", "requirements.txt"))
        if set(wanted) - {"file"}:
            raise SourceError(f"{file}: spec.requirements: expected {{file: …}}, got {', '.join(map(str, wanted))}")
        if name not in files:
            raise SourceError(
                f"{file}: spec.requirements.file: the model has no {name}, only {', '.join(sorted(files))}"
            )
        return {"requirements": (), "requirements_file": name}
    if not isinstance(wanted, list) or not all(isinstance(line, str) for line in wanted):
        raise SourceError(f"{file}: spec.requirements: expected a list of requirements or {{file: …}}, got {wanted!r}")
    return {"requirements": tuple(wanted), "requirements_file": None}
