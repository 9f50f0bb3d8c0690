"""A step of a pod's start: whatever its code raises has a word, an exit status and an end."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from model_runtime.errors import ChecksumMismatch, DownloadFailed, RequirementsFailed
from model_runtime.server import step


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "termination-log"
    file.touch()
    monkeypatch.setenv("TERMINATION_LOG", str(file))
    return file


class Panic(BaseException):
    """As pyo3's, which is no Exception."""


def deep() -> None:
    deep()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Panic("index out of bounds"), "DownloadFailed: Panic: index out of bounds"),
        (ValueError("embedded null byte"), "DownloadFailed: ValueError: embedded null byte"),
        (OSError(28, "No space left on device", "/target/x"), "DownloadFailed: /target/x: No space left on device"),
        (OSError("odd"), "DownloadFailed: OSError: odd"),
        (MemoryError(), "DownloadFailed: MemoryError: "),
        (GeneratorExit(), "DownloadFailed: GeneratorExit: "),
        (KeyError("https://me:secret@host/x?sig=y"), "DownloadFailed: KeyError: 'https://****@host/x?****'"),
        (ChecksumMismatch("x: expected"), "ChecksumMismatch: x: expected"),
        (RequirementsFailed("http://a:b@c/"), "RequirementsFailed: http://****@c/"),
    ],
)
def test_whatever_is_raised_is_reported(
    error: BaseException, text: str, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    assert step.run(fail, DownloadFailed, lambda: 60) == (6 if isinstance(error, RequirementsFailed) else 8)
    assert log.read_text() == text
    assert "Traceback" not in capsys.readouterr().err


def test_a_recursion_without_end_is_reported(log: Path) -> None:
    assert step.run(deep, DownloadFailed, lambda: 60) == 8
    assert log.read_text().startswith("DownloadFailed: RecursionError: ")


def test_an_interrupt_stays_an_interrupt(log: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        step.run(interrupt, DownloadFailed, lambda: 60)


def test_a_step_that_never_ends_is_ended(log: Path) -> None:
    program = (
        "import sys, time; from model_runtime.server import step; from model_runtime.errors import DownloadFailed\n"
        "sys.exit(step.run(lambda: time.sleep(100), DownloadFailed, lambda: 2))"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (done.returncode, log.read_text()) == (8, "DownloadFailed: not done after 2 seconds"), done.stderr
    assert time.monotonic() - began < 20


def test_sigterm_unwinds(log: Path, tmp_path: Path) -> None:
    program = (
        "import sys, time; from model_runtime.server import step; from model_runtime.errors import DownloadFailed\n"
        "def work():\n"
        "    try:\n        print('ready', flush=True); time.sleep(100)\n"
        "    finally:\n        print('tidied', flush=True)\n"
        "sys.exit(step.run(work, DownloadFailed, lambda: 60))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.stdout.read() == "tidied\n"
    assert process.returncode == 143
