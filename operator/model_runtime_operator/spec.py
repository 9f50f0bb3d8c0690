"""A ModelRuntime, parsed once from the object's body into frozen values. Pure: no clock, no environment, no cluster.

What the CRD's schema cannot say is checked here and raised as Hindered with a reason of the failure catalogue. Fields are sorted
by name, because the API server sorts them too: the same promise is always the same bytes.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from model_runtime import contract
from model_runtime.contract import Contract, Signature
from model_runtime.errors import ContractError

from . import pods
from .pods import Autoscaling, Exposure, NetworkAccess, PodOptions, Strategy, Tls
from .vocabulary import Hindered

Object = Mapping[str, Any]

ENTRY_FILE = f"src/{contract.ENTRY_MODULE}.py"
_KEY_SLASH = "__"  # ConfigMap keys cannot hold a slash


@dataclass(frozen=True)
class Promise:
    """A contract and the bytes it is served as."""

    contract: Contract
    protobin: bytes


@dataclass(frozen=True)
class Inline:
    files: Mapping[str, str]


@dataclass(frozen=True)
class ConfigMap:
    """`items` is path to key; None: every key, with two underscores for a slash."""

    name: str
    items: Mapping[str, str] | None

    def paths(self, keys: list[str]) -> dict[str, str]:
        """Path below /model/files to key, for the keys that the ConfigMap has."""
        return dict(self.items) if self.items is not None else {key.replace(_KEY_SLASH, "/"): key for key in keys}


@dataclass(frozen=True)
class Claim:
    name: str
    path: str


@dataclass(frozen=True)
class Image:
    """An image of files (`path` within it), or (`is_hydrosphere`) one of Hydrosphere's manager with everything under /model."""

    reference: str
    path: str
    pull_policy: str | None
    mode: str
    is_hydrosphere: bool = False


@dataclass(frozen=True)
class Http:
    url: str
    sha256: str
    path: str
    credentials: str | None


@dataclass(frozen=True)
class Objects:
    """Objects of a cloud's store (`kind`: s3, gcs or azure) below a prefix; `options` are those of its fetch command."""

    kind: str
    bucket: str
    prefix: str
    options: Mapping[str, str]
    is_anonymous: bool
    manifest_sha256: str | None
    credentials: str | None


Source = Inline | ConfigMap | Claim | Image | Http | Objects


@dataclass(frozen=True)
class Requirements:
    """Lines of requirements, or a file of them among the model's files."""

    lines: tuple[str, ...] = ()
    file: str | None = None


@dataclass(frozen=True)
class Warmup:
    """`golden` is the content of warmup.json, or None where the runtime makes a request up."""

    enabled: bool = True
    golden: bytes | None = None


@dataclass(frozen=True)
class ModelRuntime:
    """What a person wants, trusted from here on."""

    name: str
    namespace: str
    uid: str
    generation: int
    promise: Promise | None  # None: only the source holds the contract
    source: Source
    requirements: Requirements | None
    warmup: Warmup
    replicas: int | None  # None: the autoscaler's
    autoscaling: Autoscaling | None
    port: int
    image: str | None
    image_pull_policy: str | None
    processes: int
    batch_max_size: int | None  # None: as the model's code asks
    pod: PodOptions
    hydrosphere: Mapping[str, str]
    max_unavailable: int | str | None  # of the disruption budget; None: no budget
    network: NetworkAccess | None  # None: no policy
    strategy: Strategy
    tls: Tls | None
    service: Exposure
    metrics_port: int | None
    progress_deadline_seconds: int
    paused: bool

    @property
    def wanted_replicas(self) -> int:
        """The fewest pods that fulfil the spec."""
        return self.autoscaling.min_replicas if self.autoscaling else self.replicas or 0


def parse(body: Object) -> ModelRuntime:
    """The ModelRuntime in `body`. Raises Hindered with the first thing that makes no sense."""
    metadata, spec = body["metadata"], body["spec"]
    autoscaling = pods.autoscaling(spec)
    replicas = None if autoscaling else spec.get("replicas", 1)
    return ModelRuntime(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 1),
        promise=_promise(spec["contract"]),
        source=_source(spec["model"], has_own_image="image" in spec),
        requirements=_requirements(spec.get("requirements")),
        warmup=_warmup(spec.get("warmup") or {}),
        replicas=replicas,
        autoscaling=autoscaling,
        port=spec.get("port", contract.DEFAULT_PORT),
        image=spec.get("image"),
        image_pull_policy=spec.get("imagePullPolicy"),
        processes=spec.get("processes", 1),
        batch_max_size=(spec.get("batching") or {}).get("maxSize"),
        pod=pods.pod_options(spec),
        hydrosphere=_hydrosphere_labels(spec.get("hydrosphere")),
        max_unavailable=_max_unavailable(spec.get("disruptionBudget"), replicas, autoscaling),
        network=pods.network_access(spec.get("networkPolicy")),
        strategy=pods.strategy(spec.get("strategy")),
        tls=pods.tls(spec.get("tls")),
        service=pods.exposure(spec.get("service")),
        metrics_port=pods.metrics_port(spec.get("metrics")),
        progress_deadline_seconds=spec.get("progressDeadlineSeconds", 600),
        paused=spec.get("paused", False),
    )


# The contract ---------------------------------------------------------------------------------------------------------


def promise_of(protobin: bytes, where: str) -> Promise:
    """The promise that bytes of some source make. Raises Hindered (ContractInvalid)."""
    try:
        return Promise(contract.read(protobin), protobin)
    except ContractError as error:
        raise Hindered("ContractInvalid", f"{where}: {error}") from None


def _promise(notation: Object) -> Promise | None:
    if notation.get("fromModel"):
        return None
    era = notation.get("era")
    try:
        if "protobin" in notation:
            return promise_of(
                base64.b64decode("".join(notation["protobin"].split()), validate=True), "spec.contract.protobin"
            )
        signatures = notation.get("signatures")
        plain = {key: value for key, value in notation.items() if key not in ("era", "fromModel")}
        parsed = _sorted(contract.parse(plain if signatures is None else signatures))
        return Promise(parsed, contract.write(parsed, era or "v2"))
    except binascii.Error as error:
        raise Hindered("ContractInvalid", f"spec.contract.protobin: expected base64: {error}") from None
    except ContractError as error:
        raise Hindered(
            "ContractInvalid", f"spec.{error}" if str(error).startswith("contract.") else str(error)
        ) from None


def _sorted(parsed: Contract) -> Contract:
    def by_name(fields: tuple[contract.Field, ...]) -> tuple[contract.Field, ...]:
        nested = (
            contract.Field(each.name, each.dtype, each.shape, by_name(each.fields), each.profile) for each in fields
        )
        return tuple(sorted(nested, key=lambda each: each.name))

    signatures = (Signature(each.name, by_name(each.inputs), by_name(each.outputs)) for each in parsed.signatures)
    return Contract(tuple(sorted(signatures, key=lambda each: each.name)), parsed.model_name)


# The model ------------------------------------------------------------------------------------------------------------


def _source(model: Object, *, has_own_image: bool) -> Source:
    kinds = [kind for kind in _SOURCES if model.get(kind) is not None]
    if len(kinds) != 1:
        raise Hindered("InvalidSpec", f"spec.model: expected exactly one source, got {', '.join(kinds) or 'none'}")
    source = _SOURCES[kinds[0]](model[kinds[0]])
    if isinstance(source, Inline):
        check_paths(f"spec.model.{kinds[0]}", list(source.files))
        if not has_own_image:  # a runtime of one's own serves what it likes
            check_entry(f"spec.model.{kinds[0]}", list(source.files))
    return source


def check_paths(where: str, paths: list[str]) -> None:
    """Raises Hindered for a path that is not relative, and for a file with another below it: no node can make them."""
    known = set(paths)
    for path in sorted(paths):
        if any(part in ("", ".", "..") for part in path.split("/")):
            hint = " (two underscores in a key stand for a slash: name its path in items)" if "/" in path else ""
            raise Hindered("InvalidSpec", f"{where}: expected relative paths without '..', got {path}{hint}")
        parents = (path[:end] for end, letter in enumerate(path) if letter == "/")
        if below := next((parent for parent in parents if parent in known), None):
            raise Hindered("InvalidSpec", f"{where}: expected {below} to be a file or a folder, got {below} and {path}")


def check_entry(where: str, paths: list[str]) -> None:
    if ENTRY_FILE not in paths:
        raise Hindered("SourceEmpty", f"{where}: expected {ENTRY_FILE}, got {', '.join(sorted(paths)) or 'nothing'}")


def _config_map(source: Object) -> ConfigMap:
    items = source.get("items")
    if items is None:
        return ConfigMap(source["name"], None)
    paths = [item["path"] for item in items]
    if twice := sorted({path for path in paths if paths.count(path) > 1}):
        raise Hindered("InvalidSpec", f"spec.model.configMap.items: expected each path once, got {twice[0]} twice")
    check_paths("spec.model.configMap.items", paths)
    return ConfigMap(source["name"], {item["path"]: item["key"] for item in items})


def _image(source: Object) -> Image:
    path = source.get("path", "/").strip("/")
    return Image(source["reference"], path, source.get("pullPolicy"), source.get("mode", "Auto"))


def _hydrosphere_image(source: Object) -> Image:
    return Image(source["reference"], "model", source.get("pullPolicy"), "Copy", is_hydrosphere=True)


def _http(source: Object) -> Http:
    return Http(source["url"], source["sha256"], source.get("path", ""), _credentials(source))


def _objects(kind: str, source: Object) -> Objects:
    options = {name: source[name] for name in ("account", "endpoint", "region") if source.get(name)}
    return Objects(
        kind=kind,
        bucket=source["container" if kind == "azure" else "bucket"],
        prefix=source["prefix"],
        options=options,
        is_anonymous=source.get("anonymous", False),
        manifest_sha256=source.get("manifestSha256"),
        credentials=_credentials(source),
    )


def _credentials(source: Object) -> str | None:
    secret = source.get("credentialsSecret")
    return secret["name"] if secret else None


_SOURCES: Mapping[str, Callable[[Any], Source]] = {
    "inline": lambda source: Inline(dict(source)),
    "configMap": _config_map,
    "persistentVolumeClaim": lambda source: Claim(source["claimName"], source.get("path", "")),
    "image": _image,
    "hydrosphereImage": _hydrosphere_image,
    "http": _http,
    **{kind: partial(_objects, kind) for kind in ("s3", "gcs", "azure")},
}


# The rest -------------------------------------------------------------------------------------------------------------


def _requirements(wanted: Any) -> Requirements | None:
    if not wanted:
        return None
    if isinstance(wanted, Mapping) and isinstance(wanted.get("file"), str) and len(wanted) == 1:
        parts = wanted["file"].split("/")
        if all(part not in ("", ".", "..") for part in parts):
            return Requirements(file=wanted["file"])
        raise Hindered(
            "InvalidSpec", f"spec.requirements.file: expected a relative path without '..', got {wanted['file']!r}"
        )
    if isinstance(wanted, list) and all(isinstance(line, str) and line and "\n" not in line for line in wanted):
        return Requirements(lines=tuple(wanted))
    raise Hindered(
        "InvalidSpec",
        f"spec.requirements: expected a list of requirements or {{file: requirements.txt}}, got {wanted!r}",
    )


def _warmup(wanted: Object) -> Warmup:
    request = {key: wanted[key] for key in ("inputs", "outputs") if key in wanted}
    if "outputs" in request and "inputs" not in request:
        raise Hindered("InvalidSpec", "spec.warmup.outputs: expected inputs beside them, got none")
    golden = json.dumps([request], sort_keys=True, separators=(",", ":")).encode() if request else None
    return Warmup(wanted.get("enabled", True), golden)


def _hydrosphere_labels(wanted: Object | None) -> dict[str, str]:
    if wanted is None:
        return {}
    return {"HS_INSTANCE_NAME": wanted["servableName"], "HS_INSTANCE_MV_ID": str(wanted["modelVersionId"])}


def _max_unavailable(wanted: Object | None, replicas: int | None, autoscaling: Autoscaling | None) -> int | str | None:
    if wanted is not None:
        allowed: int | str = wanted.get("maxUnavailable", 1)
        return allowed
    return 1 if (autoscaling.max_replicas if autoscaling else replicas or 0) > 1 else None
