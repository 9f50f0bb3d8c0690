"""`model-runtime fetch`: a model's files brought to a pod before it starts, over http(s) or from a cloud's object store.

Resumable, verified, atomic: what is under its final name is whole and is what was meant; anything else ends with a word of the
failure catalogue in the termination log. Knows no Kubernetes and nothing of serving.
"""

from __future__ import annotations

from .command import fetch

__all__ = ["fetch"]
