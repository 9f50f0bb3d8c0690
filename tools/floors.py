"""The runtime's tests with the lowest and the highest dependencies that pyproject.toml allows, on the Pythons it supports.

`python tools/floors.py [3.10:lowest-direct …]` runs those of the matrix, or all. Environments are made anew outside the tree each
time, by uv; what is installed is printed, so that a failure can be repeated.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
MATRIX = [
    ("3.10", "lowest-direct"),
    ("3.10", "highest"),
    ("3.12", "lowest-direct"),
    ("3.13", "lowest-direct"),
    ("3.13", "highest"),
]
TESTS = ROOT / "tests" / "runtime"
IGNORED = (
    TESTS
    / "protos"
    / "test_stubs.py",  # grpcio-tools, a tool of development, would lift grpcio and protobuf off their floors
    TESTS / "requirements",  # pip and uv as programs, which take minutes: the same whatever is installed here
)
SHOWN = ("grpcio", "protobuf", "numpy", "click")


def main() -> int:
    from environments import interpreter, uv

    asked = [tuple(argument.split(":")) for argument in sys.argv[1:]]
    if unknown := [argument for argument in asked if argument not in MATRIX]:
        sys.exit(f"{unknown}: expected one of {', '.join(':'.join(each) for each in MATRIX)}")
    failed = []
    for python, resolution in MATRIX if not asked else [each for each in MATRIX if each in asked]:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="floors-") as folder:
            home = Path(folder) / "env"
            _run(uv(), "venv", "--quiet", "--python", interpreter(python), str(home))
            own = str(home / "bin" / "python")
            _run(
                uv(),
                "pip",
                "install",
                "--quiet",
                "--python",
                own,
                "--resolution",
                resolution,
                "-e",
                f"{ROOT}[runtime,tracing]",
            )
            _run(uv(), "pip", "install", "--quiet", "--python", own, "--group", f"{ROOT / 'pyproject.toml'}:test")
            listed = subprocess.run(
                [uv(), "pip", "freeze", "--python", own], capture_output=True, text=True, check=True
            ).stdout
            shown = [line for line in listed.splitlines() if line.partition("==")[0] in SHOWN]
            print(f"Python {python}, {resolution}: {' '.join(shown)}", flush=True)
            tests = [
                own,
                "-m",
                "pytest",
                "-q",
                "-x",
                "-p",
                "no:cacheprovider",
                *(f"--ignore={path}" for path in IGNORED),
                str(TESTS),
            ]
            if subprocess.run(tests, cwd=ROOT).returncode:
                failed.append(f"Python {python}, {resolution}")
        print(f"Python {python}, {resolution}: {time.monotonic() - started:.0f} s", flush=True)
    if failed:
        print(f"failed: {'; '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run(*command: str) -> None:
    if not shutil.which(command[0]):
        sys.exit(f"{command[0]} is not there: `make env` installs it")
    subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main())
