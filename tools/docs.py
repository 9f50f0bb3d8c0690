"""Writes into docs/ what the code knows: `make docs`. With --check, says whether that is up to date."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from model_runtime import settings
from model_runtime.server import program

ROOT = Path(__file__).parent.parent
DOCS, SAMPLES = ROOT / "docs", ROOT / "manifests" / "samples"


def main() -> int:
    check = sys.argv[1:] == ["--check"]
    stale = [page for page, sections in PAGES.items() if not _is_current(DOCS / page, sections, write=not check)]
    if check and stale:
        print(
            f"not what the code says: docs/{', docs/'.join(stale)}\nrun `make docs` and commit the result",
            file=sys.stderr,
        )
        return 1
    return 0


def _is_current(page: Path, sections: dict[str, Callable[[], str]], *, write: bool) -> bool:
    old = new = page.read_text()
    for name, content in sections.items():
        new = _filled(new, name, content())
    if write and new != old:
        page.write_text(new)
        print(f"wrote {page.name}")
    return new == old


def _filled(text: str, name: str, content: str) -> str:
    pattern = rf"(<!-- {name}: [^\n]* -->\n).*?(<!-- /{name} -->)"
    return re.sub(pattern, lambda found: f"{found[1]}\n{content}\n{found[2]}", text, flags=re.DOTALL)


def _settings() -> str:
    rows = [
        f"| `{variable}` | {f'`{default}`' if default else ''} | {meaning} |"
        for variable, default, meaning in settings.table()
    ]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows, ""])


def _exits() -> str:
    rows = [f"| {status} | {meaning} |" for status, meaning in program.EXIT_MEANINGS.items()]
    return "\n".join(["| status | meaning |", "|---|---|", *rows, ""])


def _runtime() -> str:
    return f"```python\n{(SAMPLES / 'custom-runtime' / 'runtime.py').read_text()}```\n"


PAGES: dict[str, dict[str, Callable[[], str]]] = {
    "operating.md": {"settings": _settings, "exits": _exits},
    "develop-runtimes.md": {"runtime": _runtime},
}


if __name__ == "__main__":
    sys.exit(main())
