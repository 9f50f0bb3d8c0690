"""A ModelRuntime file, read as `kubectl apply` would and built into a model directory on this machine. Talks to no cluster."""

from __future__ import annotations

import base64
import binascii
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from .. import contract, requirements
from ..contract import CONTRACT_FILE, FILES_DIR, Contract
from ..errors import ContractError, SourceError

KIND = "ModelRuntime"
GROUP = "runtime.hydrosphere.io"

_LOCAL_SOURCES = ("inline", "configMap")
_REMOTE_SOURCES = ("persistentVolumeClaim", "image", "http", "s3", "hydrosphereImage")


@dataclass(frozen=True)
class ModelRuntimeFile:
    """What a ModelRuntime file says about its model, parsed."""

    name: str
    contract: Contract
    era: str  # the form in which contract.protobin is written
    files: Mapping[str, bytes]  # path below /model/files to content
    requirements: tuple[str, ...]
    port: int | None
    environment: Mapping[str, str]

    def build(self, directory: Path) -> None:
        """Writes the model directory: contract.protobin and files/. Existing files of other models are not removed."""
        for path, content in self.files.items():
            file = directory / FILES_DIR / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        (directory / CONTRACT_FILE).write_bytes(contract.write(self.contract, self.era))


def read(file: Path, files_from: Path | None = None) -> ModelRuntimeFile:
    """The first ModelRuntime in a YAML file. `files_from` replaces its model source by a local folder. Raises SourceError."""
    documents = list(_documents(file))
    runtimes = [document for document in documents if document.get("kind") == KIND]
    if not runtimes:
        kinds = ", ".join(str(document.get("kind")) for document in documents) or "nothing"
        raise SourceError(f"{file}: expected a {KIND}, got {kinds}")
    if len(runtimes) > 1:
        raise SourceError(f"{file}: expected one {KIND}, got {len(runtimes)}")
    return _parse(file, runtimes[0], documents, files_from)


def _documents(file: Path) -> Iterator[Mapping[str, Any]]:
    try:
        for document in yaml.safe_load_all(file.read_text("utf-8")):
            if isinstance(document, Mapping):
                yield document
            elif document is not None:
                raise SourceError(f"{file}: expected YAML objects, got {type(document).__name__}")
    except OSError as error:
        raise SourceError(f"{file}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SourceError(f"{file}: expected YAML: {' '.join(str(error).split())}") from None


def _parse(
    file: Path, document: Mapping[str, Any], documents: list[Mapping[str, Any]], files_from: Path | None
) -> ModelRuntimeFile:
    spec = _mapping(file, "spec", document.get("spec"))
    parsed, era = _contract(file, spec)
    files = _folder(files_from) if files_from else _files(file, spec, documents)
    if (
        "image" not in spec and f"src/{contract.ENTRY_MODULE}.py" not in files
    ):  # an image of one's own serves what it likes
        found = ", ".join(sorted(files)) or "nothing"
        raise SourceError(f"{file}: the model has no src/{contract.ENTRY_MODULE}.py, got {found}")
    return ModelRuntimeFile(
        name=str(_mapping(file, "metadata", document.get("metadata")).get("name", file.stem)),
        contract=parsed,
        era=era,
        files=files,
        requirements=_requirements(file, spec, files),
        port=spec.get("port"),
        environment={str(item["name"]): str(item["value"]) for item in spec.get("env", []) if "value" in item},
    )


def _mapping(file: Path, path: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SourceError(f"{file}: {path}: expected a mapping, got {'nothing' if value is None else repr(value)}")
    return value


def _contract(file: Path, spec: Mapping[str, Any]) -> tuple[Contract, str]:
    notation = dict(_mapping(file, "spec.contract", spec.get("contract")))
    era = notation.pop("era", "v2")
    try:
        if notation.get("fromModel"):
            raise SourceError(
                f"{file}: spec.contract.fromModel: the contract is in the model's source, which is in the cluster"
            )
        if "signatures" in notation:  # 0.x's map of them, where a CRD can have it
            return contract.parse(notation["signatures"]), era
        if "protobin" in notation:
            return contract.read(base64.b64decode(notation["protobin"], validate=True)), era
        return contract.parse(notation), era
    except binascii.Error as error:
        raise SourceError(f"{file}: spec.contract.protobin: expected base64: {error}") from None
    except ContractError as error:
        raise SourceError(f"{file}: {error}") from None


def _files(file: Path, spec: Mapping[str, Any], documents: list[Mapping[str, Any]]) -> dict[str, bytes]:
    source = _mapping(file, "spec.model", spec.get("model"))
    if len(source) != 1:
        raise SourceError(f"{file}: spec.model: expected exactly one source, got {', '.join(source) or 'none'}")
    [(kind, value)] = source.items()
    if kind == "inline":
        return {
            _safe(file, path): str(text).encode() for path, text in _mapping(file, "spec.model.inline", value).items()
        }
    if kind == "configMap":
        return _config_map_files(file, _mapping(file, "spec.model.configMap", value), documents)
    if kind in _REMOTE_SOURCES:
        raise SourceError(f"{file}: the source {kind} is in the cluster; give the model's files with --files DIR")
    hint = difflib.get_close_matches(kind, _LOCAL_SOURCES + _REMOTE_SOURCES, n=1)
    raise SourceError(
        f"{file}: spec.model: no source is called {kind!r}" + (f", did you mean {hint[0]!r}?" if hint else "")
    )


def _config_map_files(file: Path, source: Mapping[str, Any], documents: list[Mapping[str, Any]]) -> dict[str, bytes]:
    name = source.get("name")
    content = next((_content(file, document) for document in documents if _is_config_map(document, name)), None)
    if content is None:
        raise SourceError(
            f"{file}: the ConfigMap {name!r} is not in this file; add it, or give the files with --files DIR"
        )
    items = source.get("items") or [{"key": key, "path": key.replace("__", "/")} for key in content]
    missing = [item["key"] for item in items if item["key"] not in content]
    if missing:
        raise SourceError(
            f"{file}: the ConfigMap {name!r} has no {', '.join(missing)}, only {', '.join(sorted(content))}"
        )
    return {_safe(file, item["path"]): content[item["key"]] for item in items}


def _is_config_map(document: Mapping[str, Any], name: Any) -> bool:
    return document.get("kind") == "ConfigMap" and (document.get("metadata") or {}).get("name") == name


def _content(file: Path, config_map: Mapping[str, Any]) -> dict[str, bytes]:
    try:
        binary = {
            key: base64.b64decode(text, validate=False) for key, text in (config_map.get("binaryData") or {}).items()
        }
    except (binascii.Error, ValueError) as error:
        raise SourceError(f"{file}: binaryData of a ConfigMap: expected base64: {error}") from None
    return {**{key: str(text).encode() for key, text in (config_map.get("data") or {}).items()}, **binary}


def _safe(file: Path, path: str) -> str:
    """A path stays below the model's files: the cluster refuses the same ones."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts:
        raise SourceError(f"{file}: {path!r}: expected a relative path without '..'")
    return path


def _folder(folder: Path) -> dict[str, bytes]:
    if not folder.is_dir():
        raise SourceError(f"{folder}: expected a folder with the model's files (src/{contract.ENTRY_MODULE}.py, ...)")
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _requirements(file: Path, spec: Mapping[str, Any], files: Mapping[str, bytes]) -> tuple[str, ...]:
    wanted = spec.get("requirements") or []
    if isinstance(wanted, Mapping):
        name = str(wanted.get("file", "requirements.txt"))
        if name not in files:
            raise SourceError(
                f"{file}: spec.requirements.file: the model has no {name}, only {', '.join(sorted(files))}"
            )
        wanted = requirements.lines(files[name].decode())
    if not isinstance(wanted, list) or not all(isinstance(line, str) for line in wanted):
        raise SourceError(f"{file}: spec.requirements: expected a list of requirements or {{file: …}}, got {wanted!r}")
    return tuple(wanted)
