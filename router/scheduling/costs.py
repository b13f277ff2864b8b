"""Learned costs: what a load, an unload, a request and a whole piece of work take."""

from __future__ import annotations

from itertools import accumulate
from typing import Final

from router.scheduling import gaps
from router.store.state import ModelState

#: Seconds assumed for a load, an unload and a request before one has been measured.
ASSUMED_LOAD: Final = 60.0
ASSUMED_UNLOAD: Final = 5.0
ASSUMED_SERVICE: Final = 10.0
#: Weight of a new measurement, and by which factor it may at most differ from what was known: one load that took ten
#: times as long (a cold disk) moves the average as one that took three times as long.
_NEWEST: Final = 0.3
_FARTHEST: Final = 3.0
#: What the longest of a cost still counts after one more measurement.
_FORGETTING: Final = 0.98
#: The mean time until the last of n is done, when all run side by side: 1 + 1/2 + ... + 1/n times that of one.
_LAST_OF: Final = (0.0, *accumulate(1 / count for count in range(1, 257)))


def average(known: float | None, measured: float) -> float:
    """The learned cost (s) after one more measurement; None: it is the first."""
    if known is None or known <= 0:
        return measured
    bounded = min(max(measured, known / _FARTHEST), known * _FARTHEST)
    return known + _NEWEST * (bounded - known)


def longest(known: float | None, measured: float) -> float:
    """The longest (s) that was seen lately, after one more measurement; each makes it fade a little."""
    return measured if known is None else max(measured, known * _FORGETTING)


def load(model: ModelState) -> float:
    """Expected seconds from the start to the first answer."""
    return ASSUMED_LOAD if model.load_seconds is None else model.load_seconds


def unload(model: ModelState) -> float:
    """Expected seconds until its memory is back."""
    return ASSUMED_UNLOAD if model.unload_seconds is None else model.unload_seconds


def service(model: ModelState) -> float:
    """Expected seconds of one request."""
    return ASSUMED_SERVICE if model.service_seconds is None else model.service_seconds


def work(model: ModelState, requests: int) -> float:
    """Expected seconds until all pieces of work are done to which these requests belong, pauses included.

    How many requests a piece of work has is known from the gaps: the fewer of them are long, the more follow."""
    more, pause = gaps.more_requests(gaps.blend(model.gaps, gaps.PRIOR, gaps.PRIOR_WEIGHT))
    one = service(model)
    return (one + more * (one + pause)) * _LAST_OF[min(requests, len(_LAST_OF) - 1)]
