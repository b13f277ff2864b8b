"""Summaries of measured samples: percentiles, and intervals by resampling pairs."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

_RESAMPLES = 2000


def percentile(samples: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the samples lie, interpolated. Raises ValueError without samples."""
    if not samples:
        raise ValueError("no samples")
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def interval(pairs: Sequence[T], statistic: Callable[[Sequence[T]], float]) -> tuple[float, float]:
    """The 95% bootstrap interval of `statistic` over whole pairs, the same each time for the same pairs."""
    generator = random.Random(0)
    values = [statistic(generator.choices(pairs, k=len(pairs))) for _ in range(_RESAMPLES)]
    return percentile(values, 0.025), percentile(values, 0.975)


def spread(samples: Sequence[float]) -> dict[str, float]:
    """Count, median, 99th percentile, least and greatest."""
    return {
        "count": len(samples),
        "p50": percentile(samples, 0.5),
        "p99": percentile(samples, 0.99),
        "least": min(samples),
        "greatest": max(samples),
    }
