"""Fields of profile image, audio and video carry any bytes, in every protocol that a client may use."""

from __future__ import annotations

from typing import Any

import pytest

from model_runtime.protocols import PROTOCOLS

ANY_BYTES = bytes(range(256)) + b"\0"
CODE = "def same(x):\n    return {'y': x, 'size': len(x)}\n"


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
@pytest.mark.parametrize("profile", ["image", "audio", "video"])
def test_any_bytes_reach_the_model_and_come_back(serve: Any, protocol: Any, profile: str) -> None:
    binary = {"shape": "scalar", "type": "string", "profile": profile}
    promise = {
        "name": "same",
        "inputs": {"x": binary},
        "outputs": {"y": binary, "size": {"shape": "scalar", "type": "int64"}},
    }

    answer = serve(CODE, promise).predict({"x": ANY_BYTES}, protocol=protocol)

    assert answer["size"] == len(ANY_BYTES)
    assert answer["y"] == ANY_BYTES
