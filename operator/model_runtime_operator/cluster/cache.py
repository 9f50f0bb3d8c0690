"""The last seen version of every object, by kind, and the ModelRuntime that each belongs to. In memory; knows no network.

An object is replaced only by a newer one, so that the answer to our own write counts at once and a late event does not undo it.
Objects are kept as compressed JSON and parsed when somebody asks: most are read a few times in their life, and as dicts they take
twenty times the memory. Each `get` returns a fresh dict.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from .. import names
from .kinds import CONFIG_MAP, EVENT, MODEL_RUNTIME, Key, Kind, Object, key_of

_GRAVES = 2000  # deletions remembered of each kind: an answer to a write arrives seconds after it, if at all
_STRAYS = 2000  # Events kept about objects that are not known (yet): an Event can arrive before its subject

Listener = Callable[[Key, str], None]  # a ModelRuntime's key, and the kind of object that changed


class Entry(NamedTuple):
    """One object: what the indexes need of it, and the whole as compressed JSON."""

    key: Key
    version: int
    uid: str
    runtime: Key | None  # the ModelRuntime that it belongs to
    link: Key | str | None  # an Event's subject (uid), or the ConfigMap that a ModelRuntime takes its files from
    reason: str  # of a ModelRuntime's Ready condition
    data: bytes

    def parsed(self) -> Object:
        item: Object = json.loads(zlib.decompress(self.data))
        return item


def entry(kind: Kind, item: Object) -> Entry:
    """The entry of an object as it came from the API server or from `kind.keep`."""
    link = _about(item) if kind is EVENT else _source_of(item) if kind is MODEL_RUNTIME else None
    reason = _reason(item) if kind is MODEL_RUNTIME else ""
    text = json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return Entry(
        key_of(item),
        _version(item),
        str(item["metadata"].get("uid", "")),
        _runtime_of(item),
        link,
        reason,
        zlib.compress(text, 1),
    )


class Cache:
    """`on_change` is told of every ModelRuntime that a change concerns."""

    def __init__(self, on_change: Listener) -> None:
        self._on_change = on_change
        self.reasons: Counter[str] = Counter()
        """How many ModelRuntimes have which reason in their Ready condition."""
        self._entries: dict[str, dict[Key, Entry]] = defaultdict(dict)
        self._removed: dict[str, dict[Key, int]] = defaultdict(dict)
        self._by_runtime: dict[str, dict[Key, set[Key]]] = defaultdict(lambda: defaultdict(set))
        self._by_source: dict[Key, set[Key]] = defaultdict(set)  # from a ConfigMap to the ModelRuntimes of its files
        self._events: dict[str, set[Key]] = defaultdict(set)  # by the uid of the object that they are about
        self._strays: dict[Key, None] = {}  # the oldest first

    def get(self, kind: Kind, key: Key) -> Object | None:
        found = self._entries[kind.name].get(key)
        return None if found is None else found.parsed()

    def version(self, kind: Kind, key: Key) -> int:
        """The resource version that is known, or 0."""
        found = self._entries[kind.name].get(key)
        return 0 if found is None else found.version

    def keys(self, kind: Kind) -> list[Key]:
        return list(self._entries[kind.name])

    def of(self, kind: Kind, runtime: Key) -> list[Object]:
        """The objects of that kind that carry the ModelRuntime's label, by name."""
        found = self._entries[kind.name]
        return [found[key].parsed() for key in sorted(self._by_runtime[kind.name].get(runtime, ()))]

    def is_source(self, config_map: Key) -> bool:
        """Returns True if a ModelRuntime takes its files from that ConfigMap."""
        return config_map in self._by_source

    def events_about(self, uids: Iterable[str]) -> list[Object]:
        found = self._entries[EVENT.name]
        return [found[key].parsed() for uid in uids for key in sorted(self._events.get(uid, ()))]

    def put(self, kind: Kind, item: Object) -> None:
        self.put_entry(kind, entry(kind, item))

    def put_entry(self, kind: Kind, new: Entry) -> None:
        known = self._entries[kind.name].get(new.key)
        last = self._removed[kind.name].get(new.key, 0) if known is None else known.version
        if new.version <= last:
            return
        self._forget(kind, known)
        self._entries[kind.name][new.key] = new
        self._remember(kind, new)
        self._tell(kind, new)
        if known is not None and known.runtime not in (None, new.runtime):
            self._tell(kind, known)  # somebody has changed the label by which it is ours

    def remove(self, kind: Kind, key: Key, gone: Object | None = None) -> None:
        """Forgets an object; `gone` is the object as it was deleted, whose version no older answer may undo."""
        known = self._entries[kind.name].get(key)
        if gone is not None and kind.is_written:
            self._bury(kind, key, _version(gone))
        if known is None or (gone and known.uid != gone["metadata"].get("uid")):
            return
        self._forget(kind, known)
        del self._entries[kind.name][key]
        self._tell(kind, known)

    def missing(self, kind: Kind, namespace: str | None, listed: set[Key], version: int) -> list[Key]:
        """The keys that a complete list of that namespace (None: all) lacks, made at that version: these no longer exist."""
        return [
            key
            for key, known in self._entries[kind.name].items()
            if key not in listed and namespace in (None, key[0]) and known.version <= version
        ]

    def _bury(self, kind: Kind, key: Key, version: int) -> None:
        graves = self._removed[kind.name]
        graves.pop(key, None)
        graves[key] = version
        if len(graves) > _GRAVES:
            del graves[next(iter(graves))]

    def _remember(self, kind: Kind, new: Entry) -> None:
        if new.runtime:
            self._by_runtime[kind.name][new.runtime].add(new.key)
            for event in self._events.get(new.uid, ()):  # it is about an object of ours after all
                self._strays.pop(event, None)
        if kind is EVENT:
            self._events[str(new.link)].add(new.key)
            self._limit_strays(new)
        if kind is MODEL_RUNTIME:
            self.reasons[new.reason] += 1
            if isinstance(new.link, tuple):
                self._by_source[new.link].add(new.key)

    def _forget(self, kind: Kind, known: Entry | None) -> None:
        if known is None:
            return
        if known.runtime:
            _discard(self._by_runtime[kind.name], known.runtime, known.key)
        if kind is EVENT:
            _discard(self._events, str(known.link), known.key)
            self._strays.pop(known.key, None)
        if kind is MODEL_RUNTIME:
            self.reasons[known.reason] -= 1
            if isinstance(known.link, tuple):
                _discard(self._by_source, known.link, known.key)

    def _subject(self, event: Entry) -> Entry | None:
        about = event.parsed().get("involvedObject") or {}
        return self._entries[about.get("kind", "")].get((about.get("namespace", ""), about.get("name", "")))

    def _limit_strays(self, event: Entry) -> None:
        """Warning Events of the whole cluster arrive here; those about objects of others are forgotten after a while."""
        if self._subject(event) is None:
            self._strays[event.key] = None
        if len(self._strays) > _STRAYS:
            oldest = next(iter(self._strays))
            known = self._entries[EVENT.name].pop(oldest)
            self._forget(EVENT, known)

    def _tell(self, kind: Kind, item: Entry) -> None:
        if kind is MODEL_RUNTIME:
            self._on_change(item.key, kind.name)
        elif kind is EVENT:
            subject = self._subject(item)
            if subject is not None and subject.runtime:
                self._on_change(subject.runtime, kind.name)
        elif item.runtime:
            self._on_change(item.runtime, kind.name)
        if kind is CONFIG_MAP:
            for dependant in list(self._by_source.get(item.key, ())):
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


def _reason(item: Object) -> str:
    conditions = (item.get("status") or {}).get("conditions") or ()
    return next((str(each["reason"]) for each in conditions if each["type"] == "Ready"), "Unseen")


def _discard(index: dict[Any, set[Key]], key: Any, member: Key) -> None:
    index[key].discard(member)
    if not index[key]:
        del index[key]
