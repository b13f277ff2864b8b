"""Who of those who wait is served first: turns between the callers of one model, and priorities.

Callers of one model take turns by deficit round robin (Shreedhar and Varghese, 1995): each turn earns a caller service
time in proportion to its weight, and a request is granted when its expected length has been earned. So somebody with a
hundred short questions and somebody with one long document get the same time, and nobody's place depends on how many
requests others have put in. A step of priority doubles the weight: low priority is slow, and never starved.
Between models a step of priority counts as age.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from router.store.state import Waiting

#: Shares and priorities outside of these are taken as these: a turn must be worth something, and must end.
SMALLEST_SHARE, GREATEST_SHARE = 0.1, 10.0
HIGHEST_PRIORITY = 5

#: Seconds that a request, or a turn, counts at least: no division by zero, and no endless round.
_SHORTEST = 1e-3


@dataclass(frozen=True, slots=True)
class Turns:
    """Where the round stands. next: the caller whose turn it is. earned: seconds that callers have not used up yet."""

    next: str = ""
    earned: Mapping[str, float] = field(default_factory=dict)


#: Where the round begins.
NO_TURNS = Turns()


def clamped(priority: int) -> int:
    """The priority within what counts."""
    return max(-HIGHEST_PRIORITY, min(HIGHEST_PRIORITY, priority))


def standing(waiting: Sequence[Waiting], model_priority: int, aging: float) -> tuple[float, int]:
    """Since when a model's line (oldest first, not empty) counts as waiting when models are compared, and its highest
    priority: a step of a request's priority, its key's and its model's together, is worth `aging` seconds of age."""
    oldest: dict[int, float] = {}  # of each priority: within one, nobody counts as older than its first
    for request in waiting:
        if request.priority not in oldest:
            oldest[request.priority] = request.joined
    ranks = {own: clamped(own + model_priority) for own in oldest}
    return min(joined - aging * ranks[own] for own, joined in oldest.items()), max(ranks.values())


def latest(waiting: Sequence[Waiting], model_priority: int, aging: float) -> float:
    """Since when the youngest of a model's line (not empty) counts as waiting by itself, as in `standing`."""
    return max(request.joined - aging * clamped(request.priority + model_priority) for request in waiting)


def weight(request: Waiting) -> float:
    """How much a turn of this request's caller is worth."""
    share = max(SMALLEST_SHARE, min(GREATEST_SHARE, request.share))
    return float(share * 2.0 ** clamped(request.priority))


def deal(
    waiting: Sequence[Waiting], places: int, lengths: Mapping[str, float], usual: float, turns: Turns
) -> tuple[list[str], Turns]:
    """The ids of the next `places` of `waiting` (oldest first), and where the round stands then.

    lengths: each caller's usual seconds of service, where known; usual: everybody's."""
    if places >= len(waiting):
        return [request.id for request in waiting], NO_TURNS
    queues: dict[str, list[Waiting]] = {}
    for request in waiting:
        queues.setdefault(request.caller, []).append(request)
    callers = sorted(queues)
    if turns.next in queues:
        start = callers.index(turns.next)
        callers = callers[start:] + callers[:start]
    earned = {caller: turns.earned.get(caller, 0.0) for caller in callers}
    costs = {caller: max(lengths.get(caller, usual), _SHORTEST) for caller in callers}
    turn = {caller: max(usual, _SHORTEST) * weight(queues[caller][0]) for caller in callers}
    chosen: list[str] = []
    passed = 0  # turns since the last request was granted
    while callers and len(chosen) < places:
        if passed == len(callers):  # all of them only save up: the rounds until the first can pay, at once
            rounds = min(math.ceil((costs[caller] - earned[caller]) / turn[caller]) for caller in callers) - 1
            for caller in callers:
                earned[caller] += max(rounds, 0) * turn[caller]
            passed = 0
        caller = callers[0]
        queue = queues[caller]
        if earned[caller] < costs[caller]:
            earned[caller] += turn[caller]
        passed += 1
        while queue and earned[caller] >= costs[caller] and len(chosen) < places:
            chosen.append(queue.pop(0).id)
            earned[caller] -= costs[caller]
            passed = 0
        if not queue:  # who has nothing left saves nothing up
            del earned[caller]
            callers.pop(0)
        elif earned[caller] < costs[caller]:
            callers.append(callers.pop(0))
    return chosen, Turns(callers[0] if callers else "", earned)
