"""The failure catalogue in docs/kubernetes.md, from the operator's vocabulary. What to do is written there by hand."""

from __future__ import annotations

import re

from model_runtime_operator import vocabulary

_SECTION = re.compile(r"(<!-- reasons: [^\n]* -->\n).*?(<!-- /reasons -->)", re.DOTALL)


def filled(page: str) -> str:
    rows = [f"| `{word}` | {'yes' if stalls else ''} | {meaning} |" for word, stalls, meaning in vocabulary.table()]
    table = "\n".join(["| reason | stalls at once | meaning |", "|---|---|---|", *rows, ""])
    return _SECTION.sub(lambda found: f"{found[1]}\n{table}\n{found[2]}", page)
