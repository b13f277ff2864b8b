"""The router, with a pace of health probes that can be changed while it runs: SIGUSR1 for once a second, SIGUSR2 for
its own again. `python -m benchmarks.paced_router`"""

from __future__ import annotations

import signal
import sys

from router import readiness
from router.__main__ import main

_OWN = (readiness.SHORTEST, readiness.LONGEST)


def _once_a_second(*_: object) -> None:
    readiness.SHORTEST = readiness.LONGEST = 1.0


def _own_pace(*_: object) -> None:
    readiness.SHORTEST, readiness.LONGEST = _OWN


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _once_a_second)
    signal.signal(signal.SIGUSR2, _own_pace)
    sys.exit(main())
