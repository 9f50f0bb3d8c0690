"""The workflows of the public repository: a linter reads them, and what they call exists."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from cluster import binaries

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.apiserver  # built with the tools of those tests
def test_actionlint_finds_nothing_in_the_workflows() -> None:
    program = binaries.find(["actionlint"])["actionlint"]
    files = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert files
    done = subprocess.run([program, *files], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_pre_commit_hooks_call_targets_of_the_makefile() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    makefile = (ROOT / "Makefile").read_text()
    for hook in hooks:
        program, target = hook["entry"].split()
        assert program == "make"
        assert f"\n{target}:" in makefile
