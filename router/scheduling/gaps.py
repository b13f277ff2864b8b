"""Pauses between a caller's answer and its next request for the same model, and how long to wait for that.

A histogram over buckets a factor of the square root of two apart: robust, since one long night moves one count, and
small enough to be kept per caller and model. A caller that has not come back within HORIZON is counted as gone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

#: Upper ends (s) of the buckets; one more bucket holds what is longer.
EDGES: Final = tuple(0.5 * 2 ** (step / 2) for step in range(17))
#: A caller whose last request ended longer ago (s) is gone; whatever it asks next is a new piece of work.
HORIZON: Final = EDGES[-1]
#: What is believed of callers before any of them has been seen, as counts: pauses of seconds, and one in five leaves.
PRIOR: Final = (*(0.8 / 13 if 0 < index <= 13 else 0.0 for index in range(len(EDGES))), 0.2)
#: Weight of the prior in a model's own histogram, and of the model's in a caller's (in observations).
PRIOR_WEIGHT: Final = 2.0
POOL_WEIGHT: Final = 2.0
#: How much the past counts after one more observation: about 60 of a caller and 500 of a model are remembered.
CALLER_MEMORY: Final = 1 - 1 / 60
POOL_MEMORY: Final = 1 - 1 / 500
#: The expected number of further requests is at most this: nothing is known of what has hardly been seen.
_LONGEST_WORK: Final = 200.0

#: What is left of one observation that is not forgotten yet.
_SEEN: Final = 0.5
_MIDDLES: Final = tuple((low + high) / 2 for low, high in zip((0.0, *EDGES), EDGES, strict=False))


def observe(counts: Sequence[float], gap: float, memory: float) -> tuple[float, ...]:
    """The histogram after a pause of `gap` seconds (infinite: the caller is gone), the older counts worth `memory`."""
    updated = [count * memory for count in counts] if counts else [0.0] * (len(EDGES) + 1)
    updated[bisect_right(EDGES, gap)] += 1.0
    return tuple(updated)


def blend(counts: Sequence[float], pool: Sequence[float], weight: float) -> tuple[float, ...]:
    """What is believed when `counts` were seen of one, and `pool` describes many: pool worth `weight` observations."""
    if not pool:
        return tuple(counts)
    scale = weight / sum(pool)
    if not counts:
        return tuple(scale * count for count in pool)
    return tuple(count + scale * other for count, other in zip(counts, pool, strict=True))


def came_back(counts: Sequence[float], within: float) -> bool:
    """Whether one who was seen coming back within so many seconds is among these, and not too long ago."""
    return sum(counts[: bisect_right(EDGES, within)]) >= _SEEN


def hold_until(belief: Sequence[float], idle: float, longest: float, gain: float, price: float) -> float:
    """How long after its last answer (s) a caller who has been away for `idle` is worth waiting for, up to `longest`;
    0 if not at all.

    gain: seconds of waiting that are saved if it comes back in time; price: seconds of waiting that each second costs.
    The answer is the end of the bucket (or `longest`) at which the expected gain less the expected price is largest.
    The best moment does not depend on how much of the pause has passed, so it stays the same while nothing happens.
    """
    longest = min(longest, HORIZON)
    survivors = 0.0
    for index in range(bisect_right(EDGES, idle), len(belief)):
        survivors += belief[index]
    low, value, best, best_end = idle, 0.0, 0.0, 0.0
    for index in range(bisect_right(EDGES, idle), len(EDGES)):
        if low >= longest:
            break
        start = EDGES[index - 1] if index else 0.0
        density = belief[index] / (EDGES[index] - start)
        survivors -= density * (low - start)  # of the first bucket, what has passed
        high = min(EDGES[index], longest)
        mass = density * (high - low)
        survivors -= mass
        value += gain * mass - price * (high - low) * (survivors + mass / 2)
        if value > best:
            best, best_end = value, high
        low = high
    return best_end


def more_requests(belief: Sequence[float]) -> tuple[float, float]:
    """Of a piece of work that is under way: the expected number of further requests, and the mean pause before each."""
    short = sum(belief[:-1])
    if short <= 0:
        return 0.0, 0.0
    pause = sum(count * middle for count, middle in zip(belief, _MIDDLES, strict=False)) / short
    return min(short / max(belief[-1], 1e-9), _LONGEST_WORK), pause
