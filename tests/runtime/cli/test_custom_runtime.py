"""A runtime of one's own, as docs/develop-runtimes.md shows it: started as its own program, judged by `check`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from environments import ROOT
from serving import free_port, wait_health

SAMPLES = ROOT / "manifests" / "samples"
CLI = [sys.executable, "-m", "model_runtime"]


def test_the_sample_of_a_custom_runtime_keeps_every_rule(tmp_path: Path) -> None:
    program = SAMPLES / "custom-runtime" / "runtime.py"
    port = free_port()
    subprocess.run([*CLI, "build", SAMPLES / "custom-runtime.yaml", "-o", tmp_path], check=True, timeout=60)
    variables = {**os.environ, "MODEL_DIR": str(tmp_path), "APP_PORT": str(port), "DRAIN_DELAY_SECONDS": "0"}
    with subprocess.Popen([sys.executable, str(program)], env=variables) as running:
        try:
            wait_health(f"localhost:{port}", 1, 20)
            answer = subprocess.run(
                [*CLI, "predict", f"localhost:{port}", "x=[[2, 1, 0.5]]"], capture_output=True, text=True, timeout=60
            )
            checked = subprocess.run([*CLI, "check", f"localhost:{port}"], capture_output=True, text=True, timeout=60)
        finally:
            running.send_signal(signal.SIGTERM)

    assert json.loads(answer.stdout) == {"y": [1.0]}
    assert checked.returncode == 0, checked.stdout
    assert running.returncode == 0
    assert len(program.read_text().splitlines()) < 30
