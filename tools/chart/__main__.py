"""`python -m chart [--check] [--but-install]`: writes what is made of the chart, or says what is not up to date."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from cluster.binaries import BinaryMissing

from . import api, install, reasons, values

ROOT = Path(__file__).parent.parent.parent
CHART, DOCS = ROOT / "helm", ROOT / "docs"
INSTALL = ROOT / "manifests" / "install.yaml"


def main() -> int:
    parser = argparse.ArgumentParser(prog="chart", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where something is not up to date")
    parser.add_argument("--but-install", action="store_true", help="leave manifests/install.yaml out, which needs helm")
    arguments = parser.parse_args()
    pages = {path: make for path, make in PAGES.items() if path != INSTALL or not arguments.but_install}
    try:
        stale = [path for path, make in pages.items() if not _is_current(path, make(), write=not arguments.check)]
    except (BinaryMissing, install.RenderFailed, values.Undocumented) as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.check and stale:
        listed = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        print(f"not what the chart says: {listed}\nrun `make render` and commit the result", file=sys.stderr)
        return 1
    return 0


def _is_current(path: Path, new: str, *, write: bool) -> bool:
    old = path.read_text() if path.exists() else ""
    if write and new != old:
        path.write_text(new)
        print(f"wrote {path.relative_to(ROOT)}")
    return new == old


PAGES: dict[Path, Callable[[], str]] = {
    CHART / "README.md": lambda: values.page(CHART),
    DOCS / "api.md": lambda: api.page(CHART / "files" / "crd.yaml"),
    DOCS / "kubernetes.md": lambda: reasons.filled((DOCS / "kubernetes.md").read_text()),
    INSTALL: lambda: install.manifest(CHART),
}


if __name__ == "__main__":
    sys.exit(main())
