"""Installed requirements are kept for the next `run`: once for all runs, also at the same time, and not for ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from packages import wheel

from model_runtime.errors import RequirementsFailed
from model_runtime.requirements import cache as caches
from model_runtime.requirements import user_cache
from model_runtime.requirements.cache import Cache

SIDES = {"inputs": {"x": {"shape": [-1], "type": "double"}}, "outputs": {"y": {"shape": [-1], "type": "string"}}}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A ModelRuntime file beside a folder with the model's files and a wheel that they need."""
    files = tmp_path / "files"
    (files / "src").mkdir(parents=True)
    (files / "src" / "func_main.py").write_text(
        "import one\ndef predict(x):\n    return {'y': [str(one.VALUE)] * len(x)}\n"
    )
    wheel(files / "wheels", "one", value=1)
    (files / "requirements.txt").write_text("--no-index\n-f wheels\none\n")
    spec = {
        "contract": {"signatures": {"predict": SIDES}},
        "model": {"inline": {}},
        "requirements": {"file": "requirements.txt"},
    }
    document = {"kind": "ModelRuntime", "metadata": {"name": "test"}, "spec": spec}
    (tmp_path / "runtime.yaml").write_text(yaml.safe_dump(document))
    return tmp_path


def started(project: Path, *options: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "model_runtime",
        "run",
        str(project / "runtime.yaml"),
        "--files",
        str(project / "files"),
    ]
    variables = {**os.environ, "XDG_CACHE_HOME": str(project / "cache")}
    return subprocess.Popen(
        [*command, "--predict", "-i", "x=[1.0]", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=variables,
    )


def ran(process: subprocess.Popen[str]) -> tuple[str, str]:
    output, log = process.communicate(timeout=100)
    assert process.returncode == 0, log
    return json.loads(output)["y"][0], log


def test_a_second_run_installs_nothing_unless_something_changed(project: Path) -> None:
    first, second = ran(started(project)), ran(started(project))
    assert (first[0], "from=" in first[1]) == ("1", True)
    assert (second[0], "from=" in second[1], "requirements are in the cache" in second[1]) == ("1", False, True)

    wheel(project / "files" / "wheels", "one", value=2)
    assert ran(started(project))[0] == "2"
    assert "from=" in ran(started(project, "--no-cache"))[1]


def test_runs_at_once_install_once(project: Path) -> None:
    results = [ran(process) for process in [started(project) for _ in range(3)]]

    assert [value for value, _ in results] == ["1", "1", "1"]
    assert sum("installing requirements" in log for _, log in results) == 1


def fill(folder: Path) -> None:
    (folder / "lib").mkdir()
    (folder / "lib" / "one.py").write_text("x" * 1000)


def test_an_installation_that_fails_is_not_kept(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise RequirementsFailed("no")

    cache = Cache(tmp_path)
    with pytest.raises(RequirementsFailed):
        cache.provide("a", fail)
    cache.close()

    assert (cache.provide("a", fill) / "lib" / "one.py").is_file()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["a"]


def test_a_half_made_entry_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "a" / "lib").mkdir(parents=True)

    assert (Cache(tmp_path).provide("a", fill) / "lib" / "one.py").is_file()


@pytest.mark.parametrize(("limit", "value"), [("MOST_ENTRIES", 2), ("MOST_BYTES", 2500), ("MOST_SECONDS", 50)])
def test_the_least_recently_used_go_first_and_never_those_in_use(
    limit: str, value: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, limit, value)
    running, done = Cache(tmp_path), Cache(tmp_path)
    for age, (key, cache) in enumerate([("used", running), ("old", done), ("new", done)]):
        cache.provide(key, fill)
        os.utime(tmp_path / key / "size", (time.time() - 100 + 40 * age,) * 2)
    done.close()

    last = Cache(tmp_path)
    last.provide("last", fill)

    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["last", "new", "used"]
    assert not (tmp_path / "old.lock").exists()


def test_threads_and_processes_that_make_and_remove_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "MOST_ENTRIES", 1)
    problems: list[str] = []

    def use(number: int) -> None:
        for turn in range(30):
            cache = Cache(tmp_path)
            entry = cache.provide(f"{(number + turn) % 3}", fill)
            if not (entry / "lib" / "one.py").is_file():
                problems.append(f"{number} {turn}")
            cache.close()

    threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert problems == []


@pytest.mark.parametrize("home", ["relative/path", "/proc/nowhere", "/dev/null"])
def test_without_a_place_there_is_no_cache(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", home)

    with user_cache() as cache:
        assert cache is None
    with user_cache(enabled=False) as cache:
        assert cache is None


def test_a_place_that_cannot_be_written_to_ends_run_with_one_line(project: Path) -> None:
    folder = project / "cache" / "model-runtime" / "requirements"
    ran(started(project))
    [lock] = folder.glob("*.lock")
    lock.unlink()
    lock.mkdir()

    process = started(project)
    _, log = process.communicate(timeout=100)

    assert (process.returncode, "Traceback" in log, str(lock) in log) == (6, False, True), log
