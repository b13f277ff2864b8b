"""Learned pauses and how long to wait for a caller."""

from __future__ import annotations

import random

import pytest

from router.scheduling import gaps


def learned(*pauses: float) -> tuple[float, ...]:
    counts: tuple[float, ...] = ()
    for pause in pauses:
        counts = gaps.observe(counts, pause, gaps.POOL_MEMORY)
    return counts


def test_every_pause_is_counted_once() -> None:
    assert sum(gaps.observe((), 3.0, 1.0)) == 1
    assert sum(gaps.observe(learned(3.0), float("inf"), 0.5)) == 1.5
    assert learned(float("inf"))[-1] == 1
    assert learned(gaps.HORIZON)[-1] == 1
    assert learned(gaps.HORIZON - 0.01)[-1] == 0


def test_caller_who_is_back_in_seconds_is_waited_for() -> None:
    seconds = learned(*[4.0] * 30)
    until = gaps.hold_until(seconds, 0.0, 60.0, gain=160.0, price=1.0)
    assert 4.0 <= until < 6.0
    assert gaps.hold_until(seconds, until, 60.0, gain=160.0, price=1.0) == 0, "it is later than it ever was"


def test_caller_who_is_back_after_longer_than_a_swap_is_not_waited_for() -> None:
    assert gaps.hold_until(learned(*[100.0] * 30), 0.0, 128.0, gain=60.0, price=1.0) == 0
    assert gaps.hold_until(learned(*[float("inf")] * 30), 0.0, 128.0, gain=1e6, price=1.0) == 0


def test_one_caller_is_not_waited_for_when_many_wait() -> None:
    belief = gaps.blend((), gaps.PRIOR, 1.0)
    few = gaps.hold_until(belief, 0.0, 60.0, gain=160.0, price=1.0)
    many = gaps.hold_until(belief, 0.0, 60.0, gain=160.0, price=30.0)
    assert 0 <= many < few


def test_hold_never_passes_its_limit() -> None:
    assert gaps.hold_until(learned(*[20.0] * 30), 0.0, 17.0, gain=1e6, price=1.0) <= 17.0


def test_best_moment_does_not_move_while_time_passes() -> None:
    chance = random.Random(1)
    belief = learned(*(chance.expovariate(0.25) for _ in range(200)), *[float("inf")] * 7)
    best = gaps.hold_until(belief, 0.0, 64.0, gain=200.0, price=2.0)
    for idle in (0.1, 0.5, 3.3, best / 2, best * 0.99):
        assert gaps.hold_until(belief, idle, 64.0, gain=200.0, price=2.0) == pytest.approx(best)


def test_length_of_work_is_learned_from_pauses() -> None:
    more, pause = gaps.more_requests(learned(*([4.0] * 29 + [float("inf")]) * 10))
    assert more == pytest.approx(29, rel=0.1)
    assert 3 < pause < 5
    assert gaps.more_requests(learned(float("inf"))) == (0.0, 0.0)
    assert gaps.more_requests(()) == (0.0, 0.0)


def test_belief_about_one_leans_on_all_until_it_has_been_seen() -> None:
    everyone, one = learned(*[4.0] * 50), learned(*[float("inf")] * 20)
    assert gaps.blend((), everyone, 2.0)[-1] == 0
    assert gaps.blend(one, everyone, 2.0)[-1] > 0.8 * sum(gaps.blend(one, everyone, 2.0))
    assert gaps.blend(one, (), 2.0) == one
