"""Every attack at once, next to honest clients: none of their calls is lost or wrong, probes answer, memory is bounded.

`ASSAULT_SECONDS` says for how long; the figures in docs/operating.md are of ten minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from serving import Program, model_directory

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SECONDS = float(os.environ.get("ASSAULT_SECONDS", "60"))
RATE = 200.0  # honest calls a second
QUEUE_BYTES = 64 << 20
SERVER_BYTES = QUEUE_BYTES + (512 << 20)  # the bound in docs/operating.md
STOP_SECONDS = 20.0
SUPPORT = Path(__file__).parent.parent.parent / "support"
DOUBLE = "def echo(x):\n    return {'y': x * 2}\n"


def _script(name: str, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), *sys.path])}
    command = [sys.executable, str(SUPPORT / name), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_honest_callers_notice_nothing_of_an_assault(tmp_path: Path) -> None:
    # A lone message may be larger than the queue, and fills it then: with this limit none is.
    limits = {"MAX_QUEUE_BYTES": str(QUEUE_BYTES), "MAX_MESSAGE_BYTES": str(QUEUE_BYTES // 4)}
    settings = {**limits, "GRACE_SECONDS": "5", "LOG_LEVEL": "error"}
    with Program(model_directory(tmp_path, DOUBLE), **settings) as program:
        program.wait_serving()
        threading.Thread(target=program.process.stderr.read, daemon=True).start()  # type: ignore[union-attr]
        assault = _script("assault.py", program.port, SECONDS)
        honest = _script("honest.py", program.port, SECONDS, RATE)
        peak = 0
        while honest.poll() is None:
            peak = max(peak, _resident(program.process.pid))
            time.sleep(0.1)
        told, made = json.loads(honest.communicate()[0]), json.loads(assault.communicate(timeout=120)[0])

        began = time.monotonic()
        program.terminate()
        program.process.wait(60)
        stopped = time.monotonic() - began

    figures = {**told, "peak_mib": peak >> 20, "stop_seconds": round(stopped, 1), "attacks": made}
    print(json.dumps(figures, indent=1))
    assert told["ended"] == {"right": int(SECONDS * RATE)}, figures
    assert told["failed_probes"] == 0, figures
    assert told["worst_probe_ms"] < 1000, figures
    assert peak < SERVER_BYTES, figures
    assert program.process.returncode == 0
    assert stopped < STOP_SECONDS, figures
    assert len(made) == 9, figures
