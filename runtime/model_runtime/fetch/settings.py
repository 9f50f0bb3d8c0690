"""What the fetch step takes from the environment: credentials of a Secret, given to this step only."""

from __future__ import annotations

import os


def credential(name: str) -> str | None:
    return os.environ.get(name, "").strip() or None
