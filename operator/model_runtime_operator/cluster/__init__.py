"""The cluster, as the main path sees it: apply, prune, observe, read a source, write a status, tell an Event. I/O, no judgement.

Reads come from the caches; every write is fenced by the Lease, and none is made for what is so already.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model_runtime.contract import CONTRACT_FILE

from .. import metrics, names
from ..desired import Files
from ..status import Observed, Transition
from . import comparison
from .cache import Cache
from .claims import Claims
from .connection import APPLY, MERGE, METADATA_ONLY, Connection
from .errors import ClusterError, Contested, Foreign, NotLeading, Refused, Stale, Unavailable
from .kinds import (
    AUTOSCALER,
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    ENDPOINT_SLICE,
    MODEL_RUNTIME,
    NETWORK_POLICY,
    POD,
    REPLICA_SET,
    SERVICE,
    WRITTEN,
    Key,
    Kind,
    Object,
    key_of,
)
from .lease import AlwaysLeading, Election

__all__ = ["Cluster", "ClusterError", "Contested", "Foreign", "NotLeading", "Refused", "Stale", "Unavailable"]

log = logging.getLogger(__name__)

_PRUNED = (CONFIG_MAP, SERVICE, DISRUPTION_BUDGET, AUTOSCALER, NETWORK_POLICY)


@dataclass
class Cluster:
    """The API server, through `connection`, `cache` and the `election` that allows to write."""

    connection: Connection
    cache: Cache
    election: Election | AlwaysLeading
    claims: Claims

    def __post_init__(self) -> None:
        # By ModelRuntime, then by object: what the API server stores in another form than it was applied.
        self._settled: dict[Key, dict[tuple[str, Key], tuple[str, str]]] = {}
        self._rivals: dict[Key, str] = {}
        self._files: dict[Key, tuple[str, Files]] = {}

    def model_runtime(self, key: Key) -> Object | None:
        found = self.cache.get(MODEL_RUNTIME, key)
        if found is None:
            self._forget(key)
        return found

    def _forget(self, key: Key) -> None:
        """Drops what is remembered of a ModelRuntime that no longer exists, and of sources that nobody names any more."""
        self._settled.pop(key, None)
        self._rivals.pop(key, None)
        self._files = {source: files for source, files in self._files.items() if self.cache.is_source(source)}

    # Reading ----------------------------------------------------------------------------------------------------------

    def observe(self, key: Key) -> Observed:
        """What the caches hold of a ModelRuntime's objects."""
        deployment = self.cache.get(DEPLOYMENT, key)
        pods = self.cache.of(POD, key)
        replica_sets = self.cache.of(REPLICA_SET, key)
        uids = [str(item["metadata"].get("uid")) for item in (*pods, *replica_sets)]
        return Observed(
            deployment=deployment if deployment and _label(deployment) == key[1] else None,
            replica_sets=tuple(replica_sets),
            pods=tuple(pods),
            endpoint_slices=tuple(each for each in self.cache.of(ENDPOINT_SLICE, key) if _is_of_service(each, key[1])),
            events=tuple(self.cache.events_about(uids)),
            autoscaler=self.cache.get(AUTOSCALER, key),
        )

    async def files(self, key: Key, *, whole: bool = False) -> Files | None:
        """What a source ConfigMap holds, its bytes too if `whole`; else read once for each version. None where there is none."""
        known = self.cache.get(CONFIG_MAP, key)
        if known is None:
            self._files.pop(key, None)
            return None
        version = known["metadata"]["resourceVersion"]
        if not whole and self._files.get(key, ("", None))[0] == version:
            return self._files[key][1]
        try:
            content = _content(await self.connection.get(CONFIG_MAP.path(*key)))
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise
        digests = {name: hashlib.sha256(value).hexdigest() for name, value in content.items()}
        files = Files(digests, content.get(CONTRACT_FILE))
        self._files[key] = (version, files)
        return dataclasses.replace(files, content=content) if whole else files

    def is_applied(self, wanted: Mapping[str, Any]) -> bool:
        """Whether nothing is to be written for it."""
        kind, key = WRITTEN[wanted["kind"]], key_of(wanted)
        live = self.cache.get(kind, key)
        return live is not None and _is_ours(live, wanted) and self._is_settled(kind, key, wanted, live)

    async def stand_back(self, body: Object, *, now: str) -> None:
        """Raises Contested, and sends one Event, if another living operator manages the ModelRuntime."""
        key = key_of(body)
        rival = await self.claims.rival(self.cache.get(DEPLOYMENT, key))
        known = self._rivals.pop(key, "")
        metrics.CONTESTED.set(len(self._rivals) + bool(rival))
        if not rival:
            return
        self._rivals[key] = rival
        text = (
            f"the operator of Lease {rival} manages it; the operator of Lease {self.claims.mine or '(none)'} does not"
        )
        if rival != known:
            await self.tell(body, Transition("Warning", "ManagedElsewhere", text), now=now, number=99)
        raise Contested(text)

    # Writing ----------------------------------------------------------------------------------------------------------

    async def apply(self, wanted: Mapping[str, Any]) -> None:
        """Server-side apply, unless it is so already. Raises Foreign, Refused, Stale, Unavailable, NotLeading.

        The caches hold what is labelled as ours only, and an apply takes over whatever has that name: what they lack is looked
        for first. What is ours is named by its uid, so that another object of the same name is never touched.
        """
        kind, key = WRITTEN[wanted["kind"]], key_of(wanted)
        live = self.cache.get(kind, key)
        if live is None:
            live = await self._read(kind, key)
        if live is not None and not _is_ours(live, wanted):
            raise Foreign(
                f"{kind.name} {key[1]}: exists and belongs to {_owner(live)}; delete or rename one of the two"
            )
        if live is not None and self._is_settled(kind, key, wanted, live):
            return
        if live is not None and kind is DEPLOYMENT:
            await self._hand_over_replicas(wanted, live)
        try:
            answer = await self._apply(kind, key, wanted, live)
        except Refused as refusal:
            if refusal.status == 409:
                raise Stale(str(refusal)) from None
            if refusal.status != 422 or live is None or "spec" not in live:
                raise
            await self._overwrite(kind, key, wanted, refusal)
            answer = await self._apply(kind, key, wanted, live)
        self._note(kind, key, wanted, answer)

    async def _apply(self, kind: Kind, key: Key, wanted: Mapping[str, Any], live: Object | None) -> Object:
        operator = self.claims.mine if kind is DEPLOYMENT else ""
        body = _marked(wanted, operator, uid=live["metadata"]["uid"] if live is not None else None)
        force = {"force": "false" if live is None else "true"}
        params = {"fieldManager": names.FIELD_MANAGER, "fieldValidation": "Strict", **force}
        return await self._write("PATCH", kind, kind.path(*key), body, APPLY, params)

    async def _overwrite(self, kind: Kind, key: Key, wanted: Mapping[str, Any], refusal: Refused) -> None:
        """Takes out what others added to an object of ours where that stands in the way of what we say. Raises the refusal."""
        found = await self._read(kind, key)
        if found is None or comparison.contains(found["spec"], wanted["spec"]):
            raise refusal
        patch = _replacing(found["spec"], comparison.repaired(found["spec"], wanted["spec"]))
        versions = {name: found["metadata"][name] for name in ("uid", "resourceVersion")}
        params = {"fieldManager": names.HANDOVER_MANAGER}
        try:
            await self._write("PATCH", kind, kind.path(*key), {"metadata": versions, "spec": patch}, MERGE, params)
        except Refused:
            raise refusal from None

    async def _read(self, kind: Kind, key: Key) -> Object | None:
        """The object as the API server has it, whoever it belongs to."""
        accept = METADATA_ONLY if kind.metadata_only else "application/json"
        try:
            return kind.keep(await self.connection.get(kind.path(*key), accept))
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise

    async def prune(self, key: Key, wanted: list[dict[str, Any]]) -> None:
        """Deletes what is ours and no longer wanted. A ConfigMap stays while a ReplicaSet exists whose pods could need it."""
        owner = wanted[0]["metadata"]["ownerReferences"][0]["uid"]
        keep = {(each["kind"], each["metadata"]["name"]) for each in wanted}
        keep |= {("ConfigMap", name) for each in self.cache.of(REPLICA_SET, key) for name in each.get("configMaps", ())}
        for kind in _PRUNED:
            for item in self.cache.of(kind, key):
                name = item["metadata"]["name"]
                if (
                    (kind.name, name) not in keep
                    and owner in _owner_uids(item)
                    and "deletionTimestamp" not in item["metadata"]
                ):
                    await self._delete(kind, item)

    async def write_status(self, body: Object, status: Mapping[str, Any]) -> None:
        """Replaces the status of exactly that ModelRuntime. Raises Stale when there is another of its name, or none."""
        key = key_of(body)
        patch = {"metadata": {"uid": body["metadata"]["uid"]}, "status": _replacing(body.get("status") or {}, status)}
        params = {"fieldManager": names.FIELD_MANAGER}
        try:
            answer = await self._write(
                "PATCH", MODEL_RUNTIME, MODEL_RUNTIME.path(*key) + "/status", patch, MERGE, params
            )
        except Refused as refusal:
            if refusal.status in (404, 409):
                raise Stale(str(refusal)) from None
            raise
        answer["metadata"].pop("managedFields", None)
        self.cache.put(MODEL_RUNTIME, answer)

    async def tell(self, body: Object, transition: Transition, *, now: str, number: int) -> None:
        """One Event on the ModelRuntime. Its name is made of the version it tells about, so that a repetition adds nothing."""
        metadata = body["metadata"]
        subject = {"apiVersion": names.API_VERSION, "kind": names.KIND} | {
            field: metadata[field] for field in ("name", "namespace", "uid", "resourceVersion")
        }
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{metadata['name'][:180]}.{int(metadata['resourceVersion']):x}.{number}",
                "namespace": metadata["namespace"],
            },
            "involvedObject": subject,
            "type": transition.kind,
            "reason": transition.reason,
            "message": transition.message[:1000],
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": names.FIELD_MANAGER},
            "reportingComponent": names.FIELD_MANAGER,
            "reportingInstance": names.FIELD_MANAGER,
        }
        path = f"/api/v1/namespaces/{metadata['namespace']}/events"
        try:
            await self._write("POST", _EVENT_WRITES, path, event, "application/json", {})
        except Refused as refusal:
            if refusal.status != 409:  # told already
                log.warning("no Event", extra={"error": str(refusal)})

    async def _hand_over_replicas(self, wanted: Mapping[str, Any], live: Object) -> None:
        """Before an autoscaler takes over, their number gets another owner: a field that nobody owns falls back to 1."""
        if live.get("ownsReplicas") and "replicas" not in wanted["spec"]:
            head = {key: wanted[key] for key in ("apiVersion", "kind")}
            metadata = {"name": wanted["metadata"]["name"], "uid": live["metadata"]["uid"]}
            body = {**head, "metadata": metadata, "spec": {"replicas": live["spec"].get("replicas", 1)}}
            params = {"fieldManager": names.HANDOVER_MANAGER, "force": "true"}
            await self._write("PATCH", DEPLOYMENT, DEPLOYMENT.path(*key_of(wanted)), body, APPLY, params)

    async def _delete(self, kind: Kind, item: Object) -> None:
        body = {"preconditions": {"uid": item["metadata"]["uid"]}, "propagationPolicy": "Background"}
        try:
            await self._write("DELETE", kind, kind.path(*key_of(item)), body, "application/json", {})
        except Refused as refusal:
            if refusal.status not in (404, 409):
                raise
        self.cache.remove(kind, key_of(item))

    async def _write(
        self, method: str, kind: Kind, path: str, body: Mapping[str, Any], content_type: str, params: dict[str, str]
    ) -> Object:
        seconds = self.election.seconds_to_write()
        answer = await self.connection.call(
            method, path, body=body, content_type=content_type, params=params, seconds=seconds, retries=0
        )
        metrics.WRITES.labels(kind.name, method).inc()
        return answer

    def _is_settled(self, kind: Kind, key: Key, wanted: Mapping[str, Any], live: Object) -> bool:
        if comparison.is_applied(wanted, live):
            return True
        known = self._settled.get(_runtime_of(wanted), {}).get((kind.name, key))
        return known == (comparison.fingerprint(wanted), comparison.state(live))

    def _note(self, kind: Kind, key: Key, wanted: Mapping[str, Any], answer: Object) -> None:
        kept = kind.keep(answer)
        self.cache.put(kind, kept)
        settled = self._settled.setdefault(_runtime_of(wanted), {})
        if comparison.is_applied(wanted, kept):
            settled.pop((kind.name, key), None)
        else:
            settled[kind.name, key] = (comparison.fingerprint(wanted), comparison.state(kept))
            log.warning(
                "the API server stores an object otherwise than it was applied",
                extra={"kind": kind.name, "name": key[1]},
            )


_EVENT_WRITES = Kind("Event", "v1", "events", is_written=True)


def _is_of_service(endpoint_slice: Object, name: str) -> bool:
    """Whether the slice is of the headless Service: an external one lists the same pods again."""
    labels = endpoint_slice["metadata"].get("labels") or {}
    return bool(labels.get("kubernetes.io/service-name") == name)


def _runtime_of(wanted: Mapping[str, Any]) -> Key:
    return wanted["metadata"]["namespace"], str(_label(wanted))


def _label(item: Mapping[str, Any]) -> str | None:
    label: str | None = (item["metadata"].get("labels") or {}).get(names.LABEL)
    return label


def _owner_uids(item: Mapping[str, Any]) -> list[str]:
    return [str(each["uid"]) for each in item["metadata"].get("ownerReferences") or ()]


def _is_ours(live: Object, wanted: Mapping[str, Any]) -> bool:
    """Whether the live object belongs to the owner of the wanted one. Raises Stale while it goes with an owner that is gone.

    One without an owner is ours if we have applied it: somebody has taken the reference away (`--cascade=orphan` does).
    """
    [ours] = _owner_uids(wanted)
    if "deletionTimestamp" in live["metadata"]:
        raise Stale(f"{wanted['kind']} {live['metadata']['name']} is being deleted")
    owners = live["metadata"].get("ownerReferences") or []
    if any(each["uid"] != ours and each.get("kind") == names.KIND for each in owners):
        raise Stale(f"{wanted['kind']} {live['metadata']['name']} still belongs to a ModelRuntime that was deleted")
    was_ours = names.APPLIED in (live["metadata"].get("annotations") or {}) and _label(live) in (None, _label(wanted))
    return ours in _owner_uids(live) or (not owners and was_ours)


def _owner(live: Object) -> str:
    owners = [f"{each.get('kind')} {each.get('name')}" for each in live["metadata"].get("ownerReferences") or ()]
    return ", ".join(owners) or "somebody else"


def _marked(wanted: Mapping[str, Any], operator: str, *, uid: str | None) -> dict[str, Any]:
    metadata = wanted["metadata"]
    annotations = {**(metadata.get("annotations") or {}), names.APPLIED: comparison.fingerprint(wanted)}
    if operator:
        annotations[names.OPERATOR] = operator
    return {**wanted, "metadata": {**metadata, "annotations": annotations, **({"uid": uid} if uid else {})}}


def _content(config_map: Mapping[str, Any]) -> dict[str, bytes]:
    binary = {key: base64.b64decode(value) for key, value in (config_map.get("binaryData") or {}).items()}
    return {**{key: str(value).encode() for key, value in (config_map.get("data") or {}).items()}, **binary}


def _replacing(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """A merge patch that leaves nothing of `old`: what is no longer said is said to be null."""
    nested = {
        key: _replacing(old[key], value) if isinstance(value, Mapping) and isinstance(old.get(key), Mapping) else value
        for key, value in new.items()
    }
    return {**dict.fromkeys(set(old) - set(new)), **nested}
