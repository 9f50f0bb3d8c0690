"""The shapes that all objects share: metadata with labels and owner, and nothing empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import names
from ..spec import ModelRuntime
from .platform import Dict


def head(
    api_version: str,
    kind: str,
    name: str,
    runtime: ModelRuntime,
    labels: Mapping[str, str] = {},
    annotations: Mapping[str, str] = {},
) -> Dict:
    """apiVersion, kind and metadata of an object that belongs to `runtime` and goes when it goes."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": runtime.namespace,
            "labels": {**labels, **names.labels(runtime.name)},
            "annotations": annotations or None,
            "ownerReferences": [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": names.KIND,
                    "name": runtime.name,
                    "uid": runtime.uid,
                    "controller": True,
                }
            ],
        },
    }


def bare(value: Any) -> Any:
    """The value without None and without empty dicts and lists below it: the API server drops those too. `emptyDir: {}` stays."""
    if isinstance(value, Mapping):
        kept = {key: bare(each) for key, each in value.items() if each is not None}
        return {key: each for key, each in kept.items() if each not in ({}, []) or key in _MAY_BE_EMPTY}
    if isinstance(value, (list, tuple)):
        return [bare(each) for each in value]
    return value


_MAY_BE_EMPTY = frozenset({"emptyDir", "namespaceSelector", "podSelector", "labelSelector"})
