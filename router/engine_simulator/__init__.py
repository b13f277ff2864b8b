"""An engine that only pretends: it speaks vLLM's HTTP API, takes its time like a model, and misbehaves on command.

It stands alone (nothing of the rest of the project is imported), so that it can run as a child process, in a
container or inside a test. `python -m router.engine_simulator --help` lists what can be set.
"""

import time
from typing import Final

IMPORTED_AT: Final = time.monotonic()
"""Seconds of the monotonic clock at import: a load time counts from here, so imports are part of the load."""
