"""The cache by itself: versions, owners, sources, Events, and what a complete list means."""

from __future__ import annotations

from typing import Any

import pytest

from model_runtime_operator import names
from model_runtime_operator.cluster import cache as caches
from model_runtime_operator.cluster.cache import Cache
from model_runtime_operator.cluster.kinds import CONFIG_MAP, EVENT, MODEL_RUNTIME, POD, SERVICE

Told = list[tuple[tuple[str, str], str]]


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def cache(told: Told) -> Cache:
    return Cache(lambda key, kind: told.append((key, kind)))


def item(name: str, version: int, *, runtime: str = "", uid: str = "u", **more: Any) -> dict[str, Any]:
    labels = {names.LABEL: runtime} if runtime else {}
    metadata = {"namespace": "n", "name": name, "uid": uid, "resourceVersion": str(version), "labels": labels}
    return {"metadata": metadata, **more}


def ready(name: str, version: int, reason: str) -> dict[str, Any]:
    return item(name, version, status={"conditions": [{"type": "Ready", "status": "False", "reason": reason}]})


def event(name: str, about: str, version: int = 1) -> dict[str, Any]:
    subject = {"kind": "Pod", "namespace": "n", "name": about, "uid": f"uid-{about}"}
    return item(name, version, uid=name, involvedObject=subject, message="m")


def test_an_older_version_never_replaces_a_newer_one(cache: Cache, told: Told) -> None:
    cache.put(SERVICE, item("a", 5, runtime="r", spec={"new": True}))
    cache.put(SERVICE, item("a", 4, runtime="r", spec={"new": False}))
    assert (cache.get(SERVICE, ("n", "a")) or {})["spec"] == {"new": True}
    assert cache.version(SERVICE, ("n", "a")) == 5
    assert told == [(("n", "r"), "Service")]


def test_what_is_returned_is_the_callers_own(cache: Cache) -> None:
    cache.put(SERVICE, item("a", 1, spec={"ports": [1]}))
    for found in (cache.get(SERVICE, ("n", "a")), *cache.of(SERVICE, ("n", "a"))):
        assert found is not None
        found["spec"]["ports"].append(2)
    assert (cache.get(SERVICE, ("n", "a")) or {})["spec"] == {"ports": [1]}


def test_text_of_any_kind_is_kept_as_it_came(cache: Cache) -> None:
    text = 'tab\t quote" snow\u2603 lone\ud800 \U0001f600'
    cache.put(SERVICE, item("a", 1, spec={"text": text}))
    assert (cache.get(SERVICE, ("n", "a")) or {})["spec"]["text"] == text


def test_a_late_answer_does_not_revive_a_deleted_object(cache: Cache) -> None:
    cache.put(SERVICE, item("a", 5))
    cache.remove(SERVICE, ("n", "a"), item("a", 6))
    cache.put(SERVICE, item("a", 5))
    assert cache.get(SERVICE, ("n", "a")) is None
    cache.put(SERVICE, item("a", 7, uid="another"))
    assert cache.get(SERVICE, ("n", "a")) is not None


def test_the_deletion_of_a_predecessor_leaves_its_successor(cache: Cache) -> None:
    cache.put(SERVICE, item("a", 9, uid="new"))
    cache.remove(SERVICE, ("n", "a"), item("a", 8, uid="old"))
    assert cache.get(SERVICE, ("n", "a")) is not None


def test_an_object_that_changes_its_label_leaves_its_model_runtime(cache: Cache) -> None:
    cache.put(POD, item("p", 1, runtime="a"))
    cache.put(POD, item("p", 2, runtime="b"))
    assert cache.of(POD, ("n", "a")) == []
    assert [each["metadata"]["name"] for each in cache.of(POD, ("n", "b"))] == ["p"]


def test_a_source_wakes_the_model_runtimes_that_take_their_files_from_it(cache: Cache, told: Told) -> None:
    for name in ("x", "y"):
        cache.put(MODEL_RUNTIME, item(name, 1, spec={"model": {"configMap": {"name": "files"}}}))
    told.clear()
    cache.put(CONFIG_MAP, item("files", 2))
    assert sorted(told) == [(("n", "x"), "ConfigMap"), (("n", "y"), "ConfigMap")]
    cache.put(MODEL_RUNTIME, item("x", 3, spec={"model": {"configMap": {"name": "other"}}}))
    assert cache.is_source(("n", "other"))
    assert not cache.is_source(("n", "none"))
    told.clear()
    cache.put(CONFIG_MAP, item("files", 4))
    assert told == [(("n", "y"), "ConfigMap")]


def test_reasons_are_counted_as_they_change(cache: Cache) -> None:
    cache.put(MODEL_RUNTIME, item("new", 1))
    cache.put(MODEL_RUNTIME, ready("a", 1, "Deploying"))
    cache.put(MODEL_RUNTIME, ready("a", 2, "Available"))
    cache.put(MODEL_RUNTIME, ready("b", 1, "Available"))
    assert +cache.reasons == {"Unseen": 1, "Available": 2}
    cache.remove(MODEL_RUNTIME, ("n", "b"))
    assert +cache.reasons == {"Unseen": 1, "Available": 1}


def test_a_list_removes_what_it_lacks_and_nothing_that_is_newer_or_elsewhere(cache: Cache) -> None:
    for name, version in (("listed", 3), ("gone", 4), ("written-since", 11)):
        cache.put(SERVICE, item(name, version))
    missing = cache.missing(SERVICE, "n", {("n", "listed")}, 10)
    assert missing == [("n", "gone")]
    assert cache.missing(SERVICE, "other", set(), 10) == []
    assert len(cache.missing(SERVICE, None, set(), 20)) == 3


def test_events_wake_the_model_runtime_of_their_pod(cache: Cache, told: Told) -> None:
    cache.put(POD, item("p", 1, runtime="r", uid="uid-p"))
    told.clear()
    cache.put(EVENT, event("e", "p"))
    assert told == [(("n", "r"), "Event")]
    assert [each["message"] for each in cache.events_about(["uid-p"])] == ["m"]
    cache.remove(EVENT, ("n", "e"))
    assert cache.events_about(["uid-p"]) == []


def test_events_about_objects_of_others_are_bounded(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "_STRAYS", 10)
    cache.put(POD, item("p", 1, runtime="r", uid="uid-p"))
    cache.put(EVENT, event("mine", "p"))
    for number in range(100):
        cache.put(EVENT, event(f"e{number}", "somebody"))
    assert len(cache.keys(EVENT)) == 11
    assert len(cache.events_about(["uid-p"])) == 1
    assert cache.events_about(["uid-somebody"])[-1]["metadata"]["name"] == "e99"
