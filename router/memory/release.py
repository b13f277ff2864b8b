"""Whether the memory of a stopped engine is back: a pure decision over readings.

An engine's process ends before its memory is free: the driver takes it back by and by, and a start in between finds too
little. But what comes back is not exactly what was expected, and other programs take and give memory meanwhile (on
unified memory all of them do), so there are three ways for the wait to end:

- back: nearly all that was expected has come.
- settled: some of it has come, and for a while no more has. When nothing can be expected (an engine that had not
  finished loading, another that loads beside it, one that took hardly anything), that no more comes is enough.
- late: the limit has passed.

Memory that somebody else takes meanwhile does not count as movement; only a new highest reading does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: What counts as all: this share of what is expected, or all but so many bytes. On unified memory a busy system takes
#: some hundred MiB more or less from one second to the next, and what takes no more than that cannot be seen to return.
NEARLY_ALL: Final = 0.9
MISSING: Final = 512 * 2**20
#: The share that must have come before "no more comes" ends the wait. What was measured is trusted further than what
#: was declared: a declaration of twice the use must not cost the whole limit at each stop.
SOME_MEASURED: Final = 0.5
SOME_DECLARED: Final = 0.1
#: Seconds without a new highest reading after which no more is expected.
SETTLED_AFTER: Final = 2.0
#: A reading is a new highest one when it is higher by more than this (bytes); less is the noise of a running system.
NOISE: Final = 128 * 2**20


class Verdict(StrEnum):
    """What to make of the readings so far."""

    WAIT = "wait"
    BACK = "back"
    SETTLED = "settled"
    LATE = "late"


@dataclass(frozen=True, slots=True)
class Reading:
    """Free bytes at a moment (s)."""

    at: float
    free: int


@dataclass(frozen=True, slots=True)
class Expected:
    """before: bytes free before the stop began. use: bytes that should come. measured: that was measured, and is not
    just declared."""

    before: int
    use: int
    measured: bool


def verdict(readings: Sequence[Reading], expected: Expected | None, limit: float) -> Verdict:
    """readings: since the engine was gone, oldest first, at least one. expected: None when it is not known what should
    come. limit: seconds after the first reading."""
    calm_since = _calm_since(readings)
    newest = readings[-1]
    if expected is not None:
        if newest.free - expected.before >= min(NEARLY_ALL * expected.use, expected.use - MISSING):
            return Verdict.BACK
        some = (SOME_MEASURED if expected.measured else SOME_DECLARED) * expected.use
        settles = some <= MISSING or max(reading.free for reading in readings) - expected.before >= some
    else:
        settles = True
    if settles and newest.at - calm_since >= SETTLED_AFTER:
        return Verdict.SETTLED
    return Verdict.LATE if newest.at - readings[0].at >= limit else Verdict.WAIT


def _calm_since(readings: Sequence[Reading]) -> float:
    """The moment of the last new highest reading."""
    highest = readings[0]
    for reading in readings[1:]:
        if reading.free > highest.free + NOISE:
            highest = reading
    return highest.at
