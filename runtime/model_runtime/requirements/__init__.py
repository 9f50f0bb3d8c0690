"""A model's requirements, installed into its own directory (`lib/`) and never into the runtime's environment.

pip reads the requirements, or uv where it is on the PATH and reads them alike: in the folder of the model's files, by their own
rules. What was installed is recorded in `lib.lock`, by which a second call knows that nothing is left to do. The installation is
put together aside and moved into place whole: a broken one leaves nothing behind.
"""

from __future__ import annotations

from .cache import Cache, user_cache
from .installation import LIBRARY, LOCK, install
from .listing import Wanted

__all__ = ["LIBRARY", "LOCK", "Cache", "Wanted", "install", "user_cache"]
