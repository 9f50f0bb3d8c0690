"""Desired Kubernetes objects of a ModelRuntime, as plain dicts. Pure: no clock, no environment, no cluster.

The same ModelRuntime on the same platform gives the same objects, byte for byte; nothing in them names the operator's version.
Only what we mean is said: every field that is left out may be set by others and stays as they set it.
"""

from __future__ import annotations

from ..spec import ConfigMap, Inline, ModelRuntime, Promise, check_entry, check_paths, promise_of
from ..vocabulary import Hindered
from . import access, model, workload
from .platform import CaBundle, Dict, Files, Platform
from .rendering import bare

__all__ = ["CaBundle", "Dict", "Files", "Platform", "contract_of", "model_digest", "objects"]


def objects(runtime: ModelRuntime, platform: Platform, files: Files | None = None) -> list[Dict]:
    """The objects, in the order in which they are applied. `files` is what the source ConfigMap holds, where there is one.

    Raises Hindered where the source cannot be served.
    """
    promise = contract_of(runtime, files)
    return [
        bare(wanted)
        for wanted in (
            model.contract_map(runtime, promise),
            model.files_map(runtime, files),
            access.service(runtime),
            access.external_service(runtime),
            workload.deployment(runtime, platform, model.assemble(runtime, platform, files, promise)),
            access.disruption_budget(runtime),
            access.autoscaler(runtime),
            access.network_policy(runtime),
        )
        if wanted is not None
    ]


def model_digest(runtime: ModelRuntime, files: Files | None) -> str | None:
    """A digest of the model's files where one can be known from outside the pods."""
    return model.digest(runtime, files)


def contract_of(runtime: ModelRuntime, files: Files | None) -> Promise | None:
    """The contract as far as it can be known from outside the pods; None where only they can read it."""
    if isinstance(runtime.source, ConfigMap) and files is not None:
        where = f"ConfigMap {runtime.source.name}"
        paths = runtime.source.paths(list(files.keys))
        missing = sorted(key for key in paths.values() if key not in files.keys)
        if missing:
            raise Hindered("SourceNotFound", f"{where}: has no key {', '.join(missing)}")
        check_paths(where, list(paths))
        if runtime.image is None:  # a runtime of one's own serves what it likes
            check_entry(where, list(paths))
        if runtime.promise is None:
            if files.protobin is None:
                raise Hindered("ContractMissing", f"{where}: expected contract.protobin, as contract.fromModel says")
            return promise_of(files.protobin, where)
    if runtime.promise is None and isinstance(runtime.source, Inline):
        raise Hindered("ContractMissing", "inline files are text and cannot hold contract.protobin")
    return runtime.promise
