"""What the supervisor and its model processes agree on beside the channel's frames. Standard library only."""

from __future__ import annotations

import struct
from typing import Any, Dict, List, NamedTuple

from ..protocols import PROTOCOL_BY_PATH

METHODS = list(PROTOCOL_BY_PATH)  # a CALL frame's code is an index into it
TAKEN = struct.Struct("<Q")  # the last call that was begun, at the start of the shared page
FAILURE_BYTES = 1 << 20  # the most that describes why a call failed
STATUS_LINE_BYTES = 1 << 18  # the longest line of status


class ModelOptions(NamedTuple):
    """How a model is called. The settings of the same names say more."""

    convention: str = "auto"
    threads: int = 1
    error_details: bool = True
    batch_max_size: int = 0  # 0: as the model's code asks
    max_message_bytes: int = 512 << 20  # what the values may take that a request leaves out


class Config(NamedTuple):
    """What the supervisor tells a model process. Descriptors are those that it inherits."""

    model_dir: str
    libraries: List[str]  # folders of the model's own, among which `__main__` has looked for numpy
    channel: int
    status: int  # where the state is written, a JSON object a line
    shared: int  # a page of memory in which `TAKEN` is kept
    lease: int  # held by the guardian alone
    options: Dict[str, Any]  # of ModelOptions
    warm_up: bool = True
    service: str = ""  # module:Class of a custom runtime; a module may be a file
    path: List[str] = []  # noqa: RUF012  # never changed; where a custom runtime's imports are found
    max_message_bytes: int = 512 << 20  # of a request and of an answer
