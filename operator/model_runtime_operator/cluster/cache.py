"""What was last seen of every object, by kind, and which ModelRuntime each belongs to. In memory; knows no network.

An object is replaced only by a newer one, so that the answer to a write of ours counts at once and a late event does not undo it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from .. import names
from .kinds import CONFIG_MAP, EVENT, MODEL_RUNTIME, Key, Kind, Object, key_of

_GRAVES = 2000  # deletions remembered of each kind: an answer to a write arrives seconds after it, if at all

Listener = Callable[[Key, str], None]  # a ModelRuntime's key, and the kind of object that changed


class Cache:
    """`on_change` is told of every ModelRuntime that a change concerns."""

    def __init__(self, on_change: Listener) -> None:
        self._on_change = on_change
        self._objects: dict[str, dict[Key, Object]] = defaultdict(dict)
        self._removed: dict[str, dict[Key, int]] = defaultdict(dict)
        self._by_runtime: dict[str, dict[Key, set[Key]]] = defaultdict(lambda: defaultdict(set))
        self._by_source: dict[Key, set[Key]] = defaultdict(
            set
        )  # ConfigMap to the ModelRuntimes that take their files from it
        self._events: dict[str, dict[Key, Object]] = defaultdict(dict)  # by the uid of the object they are about

    def get(self, kind: Kind, key: Key) -> Object | None:
        return self._objects[kind.name].get(key)

    def keys(self, kind: Kind) -> list[Key]:
        return list(self._objects[kind.name])

    def of(self, kind: Kind, runtime: Key) -> list[Object]:
        """The objects of that kind that carry the ModelRuntime's label, by name."""
        found = self._objects[kind.name]
        return [found[key] for key in sorted(self._by_runtime[kind.name].get(runtime, ()))]

    def events_about(self, uids: Iterable[str]) -> list[Object]:
        return [event for uid in uids for event in self._events.get(uid, {}).values()]

    def put(self, kind: Kind, item: Object) -> None:
        key = key_of(item)
        known = self._objects[kind.name].get(key)
        last = self._removed[kind.name].get(key, 0) if known is None else _version(known)
        if _version(item) <= last:
            return
        self._forget(kind, key, known)
        self._objects[kind.name][key] = item
        self._remember(kind, key, item)
        self._tell(kind, key, item)

    def remove(self, kind: Kind, key: Key, gone: Object | None = None) -> None:
        """Forgets an object; `gone` is the object as it was deleted, whose version no older answer may undo."""
        known = self._objects[kind.name].get(key)
        if gone is not None and kind.is_written:
            self._bury(kind, key, _version(gone))
        if known is None or (gone and known["metadata"].get("uid") != gone["metadata"].get("uid")):
            return
        self._forget(kind, key, known)
        del self._objects[kind.name][key]
        self._tell(kind, key, known)

    def replace(self, kind: Kind, namespace: str | None, items: list[Object]) -> None:
        """A complete list: what it lacks is gone."""
        listed = {key_of(item) for item in items}
        for key in self.keys(kind):
            if key not in listed and namespace in (None, key[0]):
                self.remove(kind, key)
        for item in items:
            self.put(kind, item)

    def _bury(self, kind: Kind, key: Key, version: int) -> None:
        graves = self._removed[kind.name]
        graves.pop(key, None)
        graves[key] = version
        if len(graves) > _GRAVES:
            del graves[next(iter(graves))]

    def _remember(self, kind: Kind, key: Key, item: Object) -> None:
        if runtime := _runtime_of(item):
            self._by_runtime[kind.name][runtime].add(key)
        if kind is EVENT:
            self._events[_about(item)][key] = item
        if kind is MODEL_RUNTIME and (source := _source_of(item)):
            self._by_source[source].add(key)

    def _forget(self, kind: Kind, key: Key, item: Object | None) -> None:
        if item is None:
            return
        if runtime := _runtime_of(item):
            _discard(self._by_runtime[kind.name], runtime, key)
        if kind is EVENT:
            self._events[_about(item)].pop(key, None)
            if not self._events[_about(item)]:
                del self._events[_about(item)]
        if kind is MODEL_RUNTIME and (source := _source_of(item)):
            _discard(self._by_source, source, key)

    def _tell(self, kind: Kind, key: Key, item: Object) -> None:
        if kind is MODEL_RUNTIME:
            self._on_change(key, kind.name)
        elif kind is EVENT:
            about = item.get("involvedObject") or {}
            subject = self._objects[about.get("kind", "")].get((about.get("namespace", ""), about.get("name", "")))
            if subject is not None and (runtime := _runtime_of(subject)):
                self._on_change(runtime, kind.name)
        elif runtime := _runtime_of(item):
            self._on_change(runtime, kind.name)
        if kind is CONFIG_MAP:
            for dependant in list(self._by_source.get(key, ())):
                self._on_change(dependant, kind.name)


def _version(item: Object) -> int:
    """Resource versions of one object can be compared as numbers (Kubernetes promises it since 1.35, etcd always did)."""
    return int(item["metadata"].get("resourceVersion") or 0)


def _runtime_of(item: Object) -> Key | None:
    name = (item["metadata"].get("labels") or {}).get(names.LABEL)
    return (item["metadata"].get("namespace", ""), name) if name else None


def _source_of(item: Object) -> Key | None:
    name = ((item.get("spec", {}).get("model") or {}).get("configMap") or {}).get("name")
    return (item["metadata"]["namespace"], name) if name else None


def _about(event: Object) -> str:
    return str((event.get("involvedObject") or {}).get("uid", ""))


def _discard(index: dict[Key, Any], key: Key, member: Key) -> None:
    index[key].discard(member)
    if not index[key]:
        del index[key]
