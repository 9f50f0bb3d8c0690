"""The fuzzer itself: each target survives a short run, finds a planted mistake, and replays what it saved."""

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parent / "run.py"
TARGETS = ("0.0.5", "v2", "v3", "open-inference", "predict-open-inference", "contract")


def fuzz(*arguments: str, cwd: Path, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run the fuzz program in `cwd`; `code` runs before it, in the same process."""
    program = f"import runpy, sys; sys.path.insert(0, {str(RUN.parent)!r}); sys.argv = sys.argv[1:]; {code}"
    program += f"\nrunpy.run_path({str(RUN)!r}, run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", program, str(RUN), *arguments], cwd=cwd, capture_output=True, text=True
    )


@pytest.mark.parametrize("target", TARGETS)
def test_a_short_seeded_run_is_clean(target: str, tmp_path: Path) -> None:
    done = fuzz("--target", target, "--runs", "3000", "--seed", "1", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert f"{target}: done, 3,000 inputs, none broke it" in done.stdout


def test_a_mistake_is_found_saved_and_replayed(tmp_path: Path) -> None:
    mistake = "from model_runtime import wire; right = wire.int64; wire.int64 = lambda value: abs(right(value))"

    found = fuzz("--target", "v3", "--runs", "100000", "--seed", "1", cwd=tmp_path, code=mistake)

    assert found.returncode == 1
    assert "replay: make fuzz TARGET=v3 REPLAY=" in found.stderr
    saved = found.stderr.rsplit("REPLAY=", 1)[1].strip()
    assert fuzz("--target", "v3", "--replay", saved, cwd=tmp_path, code=mistake).returncode == 1
    assert "passes" in fuzz("--target", "v3", "--replay", saved, cwd=tmp_path).stdout
