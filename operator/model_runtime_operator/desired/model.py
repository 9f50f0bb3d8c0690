"""How /model comes to be: the ConfigMaps, volumes, mounts and init steps of each source. Pure.

The runtime sees read-only mounts side by side: /model/contract.protobin, /model/files, /model/lib, /model/warmup.json.
ConfigMaps, claims and OCI volumes are mounted where they are; only what must be fetched, copied or installed goes through an
emptyDir.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field

from model_runtime.contract import CONTRACT_FILE, DEFAULT_MODEL_DIR, FILES_DIR

from .. import names
from ..spec import Claim, ConfigMap, Http, Image, Inline, ModelRuntime, Objects, Promise
from . import environment
from .platform import Dict, Files, Platform
from .rendering import head

FILES_PATH = f"{DEFAULT_MODEL_DIR}/{FILES_DIR}"
CONTRACT_PATH = f"{DEFAULT_MODEL_DIR}/{CONTRACT_FILE}"
WARMUP_FILE = "warmup.json"
LIBRARY_PATH = f"{DEFAULT_MODEL_DIR}/lib"

COPY_UID = 65532  # model images run as root by default, which restricted pods may not; `cp` will do as anyone


@dataclass(frozen=True)
class Assembly:
    """What a pod needs to have the model: volumes, init steps in order, and what the runtime mounts, read-only."""

    volumes: list[Dict] = field(default_factory=list)
    steps: list[Dict] = field(default_factory=list)
    mounts: list[Dict] = field(default_factory=list)

    def __add__(self, other: Assembly) -> Assembly:
        return Assembly(
            self.volumes + other.volumes,
            self.steps + other.steps,
            self.mounts + other.mounts,
        )


def contract_map(runtime: ModelRuntime, promise: Promise | None) -> Dict | None:
    """The contract (and the warm-up request) under a name that carries their hash: an old pod never reads a new contract."""
    content = _contract_content(runtime, promise)
    if not content:
        return None
    data = {key: base64.b64encode(value).decode() for key, value in content.items()}
    return {**head("v1", "ConfigMap", _contract_name(runtime, promise), runtime), "immutable": True, "binaryData": data}


def files_map(runtime: ModelRuntime, files: Files | None) -> Dict | None:
    """Inline files, or a copy of the source ConfigMap, under a name that carries their hash: an old pod never sees a new file."""
    source = runtime.source
    if isinstance(source, Inline):
        data = {key: source.files[path] for path, key in _inline_keys(source).items()}
        return {**head("v1", "ConfigMap", _files_name(runtime, source), runtime), "immutable": True, "data": data}
    return _snapshot(runtime, source, files) if isinstance(source, ConfigMap) and files is not None else None


def _snapshot(runtime: ModelRuntime, source: ConfigMap, files: Files) -> Dict:
    """The keys of the source that the model can see. All are binary, so that the copy is never larger than the original."""
    keys = sorted(set(source.paths(list(files.keys)).values()))
    content = {key: base64.b64encode(files.content[key]).decode() for key in keys} if files.content else {}
    wanted = head("v1", "ConfigMap", _snapshot_name(runtime, source, files), runtime)
    wanted["metadata"]["annotations"] = {names.FILES_DIGEST: hashlib.sha256(_keys_listing(source, files)).hexdigest()}
    return {**wanted, "immutable": True, "binaryData": content}


def _snapshot_name(runtime: ModelRuntime, source: ConfigMap, files: Files) -> str:
    return names.hashed(runtime.name, "files", _keys_listing(source, files))


def _keys_listing(source: ConfigMap, files: Files) -> bytes:
    keys = sorted(set(source.paths(list(files.keys)).values()))
    return "".join(f"{files.keys.get(key, '')}  {key}\n" for key in keys).encode()


def assemble(runtime: ModelRuntime, platform: Platform, files: Files | None, promise: Promise | None) -> Assembly:
    source = _files(runtime, platform, files)
    return source + _contract(runtime, platform, promise, source) + _library(runtime, platform, source)


# Files ----------------------------------------------------------------------------------------------------------------


def _files(runtime: ModelRuntime, platform: Platform, files: Files | None) -> Assembly:
    source = runtime.source
    if isinstance(source, Inline):
        return _config_map(_files_name(runtime, source), _inline_keys(source))
    if isinstance(source, ConfigMap):
        items = source.paths(sorted(files.keys) if files else [])
        return _config_map(_snapshot_name(runtime, source, files) if files else source.name, items)
    if isinstance(source, Claim):
        volume = {"name": "files", "persistentVolumeClaim": {"claimName": source.name, "readOnly": True}}
        return Assembly([volume], [], [_mount("files", FILES_PATH, source.path)])
    if isinstance(source, Image):
        return _image(runtime, platform, source)
    return _fetched(runtime, platform, source)


def digest(runtime: ModelRuntime, files: Files | None) -> str | None:
    """What is known of the files' identity: a digest of their bytes, or the one they are checked against."""
    source = runtime.source
    if isinstance(source, Inline):
        return "sha256:" + hashlib.sha256(_listing(source)).hexdigest()
    if isinstance(source, ConfigMap) and files is not None:
        return "sha256:" + files_digest(source.paths(sorted(files.keys)), files)
    if isinstance(source, Http):
        return "sha256:" + source.sha256
    if isinstance(source, Objects) and source.manifest_sha256:
        return "sha256:" + source.manifest_sha256
    return source.reference.partition("@")[2] or None if isinstance(source, Image) else None


def files_digest(items: dict[str, str], files: Files) -> str:
    """Changes when a byte that the model can see changes, and only then."""
    listing = "".join(f"{files.keys.get(key, '')}  {path}\n" for path, key in sorted(items.items()))
    return hashlib.sha256(listing.encode()).hexdigest()


def _config_map(name: str, items: dict[str, str]) -> Assembly:
    listed = [{"key": key, "path": path} for path, key in sorted(items.items())]
    return Assembly(
        [{"name": "files", "configMap": {"name": name, "items": listed}}], [], [_mount("files", FILES_PATH)]
    )


def _image(runtime: ModelRuntime, platform: Platform, source: Image) -> Assembly:
    if source.mode == "Volume" or (source.mode == "Auto" and platform.image_volumes):
        image = {"reference": source.reference, "pullPolicy": source.pull_policy}
        return Assembly([{"name": "files", "image": image}], [], [_mount("files", FILES_PATH, source.path)])
    step = {
        "name": "copy",
        "image": source.reference,
        "imagePullPolicy": source.pull_policy,
        "command": ["cp", "-R", f"/{source.path}/.".replace("//", "/"), "/target/"],
        "securityContext": security() if _has_user(runtime, platform) else {**security(), "runAsUser": COPY_UID},
        "resources": runtime.pod.init_resources,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "files", "mountPath": "/target"}],
    }
    return Assembly(
        [_empty("files")], [step], [_mount("files", FILES_PATH, FILES_DIR if source.is_hydrosphere else "")]
    )


def _has_user(runtime: ModelRuntime, platform: Platform) -> bool:
    """Whether the cluster or the ModelRuntime gives all containers a uid: then none is fixed here."""
    return platform.assigns_users or "runAsUser" in runtime.pod.security


def _fetched(runtime: ModelRuntime, platform: Platform, source: Http | Objects) -> Assembly:
    arguments = _fetch_http(source) if isinstance(source, Http) else _fetch_objects(source)
    step = _step(runtime, platform, "fetch", ["fetch", *arguments], [{"name": "files", "mountPath": "/target"}])
    if source.credentials:
        step["envFrom"] = [{"secretRef": {"name": source.credentials}}]
    return Assembly([_empty("files")], [step], [_mount("files", FILES_PATH, "files")])


def _fetch_http(source: Http) -> list[str]:
    return ["http", source.url, "--sha256", source.sha256, *_option("--path", source.path), "--into", "/target"]


def _fetch_objects(source: Objects) -> list[str]:
    options = [part for name, value in source.options.items() for part in _option(f"--{name}", value)]
    options += ["--anonymous"] if source.is_anonymous else []
    options += _option("--manifest-sha256", source.manifest_sha256)
    return [source.kind, *options, "--into", "/target", "--", source.bucket, source.prefix]


def _option(name: str, value: str | None) -> list[str]:
    return [name, value] if value else []


# The contract and the libraries -----------------------------------------------------------------------------------------


def _contract(runtime: ModelRuntime, platform: Platform, promise: Promise | None, source: Assembly) -> Assembly:
    """The contract's ConfigMap; or the file that the source holds, checked (and compared) by a step before anything starts."""
    content = _contract_content(runtime, promise)
    listed = [{"key": key, "path": key} for key in sorted(content)]
    volumes = [{"name": "contract", "configMap": {"name": _contract_name(runtime, promise), "items": listed}}]
    mounts = [_mount("contract", f"{DEFAULT_MODEL_DIR}/{key}", key) for key in sorted(content)]
    given = Assembly(volumes, [], mounts) if content else Assembly()
    is_hydrosphere = isinstance(runtime.source, Image) and runtime.source.is_hydrosphere
    if promise is not None and not is_hydrosphere:
        return given
    found = _source_root(source, is_hydrosphere)
    if promise is not None:
        arguments = ["fetch", "contract", f"/source/{CONTRACT_FILE}", "--expect", CONTRACT_PATH]
        return given + Assembly([], [_step(runtime, platform, "contract", arguments, [found, *mounts])], [])
    taken = {"name": "taken", "mountPath": "/target"}
    step = _step(
        runtime,
        platform,
        "contract",
        ["fetch", "contract", f"/source/{CONTRACT_FILE}", "--into", "/target"],
        [found, taken],
    )
    return given + Assembly([_empty("taken")], [step], [_mount("taken", CONTRACT_PATH, CONTRACT_FILE)])


def _source_root(source: Assembly, is_hydrosphere: bool) -> Dict:
    """Where the source's own contract.protobin lies: beside files/ in Hydrosphere's images, else among the files."""
    [mount] = source.mounts
    whole = {key: value for key, value in mount.items() if not (is_hydrosphere and key == "subPath")}
    return {**whole, "mountPath": "/source"}


def _library(runtime: ModelRuntime, platform: Platform, source: Assembly) -> Assembly:
    """Requirements, installed for the model alone. A Hydrosphere image of 0.x brings its own lib/."""
    is_hydrosphere = isinstance(runtime.source, Image) and runtime.source.is_hydrosphere
    if runtime.requirements is None:
        return Assembly([], [], [_mount("files", LIBRARY_PATH, "lib")] if is_hydrosphere else [])
    wanted = runtime.requirements
    what = ["-r", f"{FILES_PATH}/{wanted.file}"] if wanted.file else ["--", *wanted.lines]
    mounts = [*source.mounts, {"name": "library", "mountPath": "/library"}]
    step = _step(runtime, platform, "requirements", ["install", "/library", *what], mounts)
    return Assembly([_empty("library")], [step], [_mount("library", LIBRARY_PATH, "lib")])


# Parts ----------------------------------------------------------------------------------------------------------------

_SECURITY: Dict = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def security() -> Dict:
    """The security context of every container: nothing is allowed that Pod Security's `restricted` forbids."""
    return {**_SECURITY, "capabilities": {"drop": ["ALL"]}}


def _step(runtime: ModelRuntime, platform: Platform, name: str, arguments: list[str], mounts: list[Dict]) -> Dict:
    """An init container that runs a subcommand of the runtime's own image, so that its Python is the one that serves."""
    step: Dict = {
        "name": name,
        "image": runtime.image or platform.runtime_image,
        "imagePullPolicy": runtime.image_pull_policy,
        "command": ["python", "-m", "model_runtime"],
        "args": [argument.replace("$", "$$") for argument in arguments],  # $(NAME) would be a variable's value
        "env": environment.step_variables(runtime, platform),
        "resources": runtime.pod.init_resources,
        "securityContext": security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [*environment.step_mounts(runtime, platform), *mounts],
    }
    return step


def _mount(volume: str, path: str, within: str = "") -> Dict:
    return {"name": volume, "mountPath": path, "readOnly": True, **({"subPath": within} if within else {})}


def _empty(name: str) -> Dict:
    return {"name": name, "emptyDir": {}}


def _contract_content(runtime: ModelRuntime, promise: Promise | None) -> dict[str, bytes]:
    content = {CONTRACT_FILE: promise.protobin} if promise else {}
    return {**content, **({WARMUP_FILE: runtime.warmup.golden} if runtime.warmup.golden else {})}


def _contract_name(runtime: ModelRuntime, promise: Promise | None) -> str:
    content = _contract_content(runtime, promise)
    return names.hashed(runtime.name, "contract", b"\0".join(content[key] for key in sorted(content)))


def _files_name(runtime: ModelRuntime, source: Inline) -> str:
    return names.hashed(runtime.name, "files", _listing(source))


def _listing(source: Inline) -> bytes:
    return "".join(f"{path}\0{text}\0" for path, text in sorted(source.files.items())).encode()


def _inline_keys(source: Inline) -> dict[str, str]:
    """Path to ConfigMap key. The keys are numbered, because keys have no slashes and different paths must not meet."""
    return {path: f"{number:02d}-{path.rpartition('/')[2]}" for number, path in enumerate(sorted(source.files))}
