"""When the memory of a stopped engine counts as back, on sequences of readings as they come from real boxes."""

from __future__ import annotations

import pytest

from router.memory.release import NOISE, SETTLED_AFTER, Expected, Reading, Verdict, verdict

GIB = 2**30
LIMIT = 30.0
MEASURED = Expected(before=10 * GIB, use=80 * GIB, measured=True)
DECLARED = Expected(before=10 * GIB, use=80 * GIB, measured=False)


def ended(free: list[tuple[float, float]], expected: Expected | None) -> tuple[Verdict, float]:
    """The verdict that ends the wait, and after how many seconds. free: moments and GiB."""
    readings: list[Reading] = []
    for at, gib in free:
        readings.append(Reading(100.0 + at, round(gib * GIB)))
        if (found := verdict(readings, expected, LIMIT)) is not Verdict.WAIT:
            return found, at
    return Verdict.WAIT, free[-1][0]


def every(step: float, values: list[float]) -> list[tuple[float, float]]:
    return [(round(index * step, 3), value) for index, value in enumerate(values)]


def steady(value: float, seconds: float, step: float = 0.5) -> list[tuple[float, float]]:
    return every(step, [value] * (round(seconds / step) + 1))


def test_back_at_once_is_not_waited_for() -> None:
    assert ended([(0.0, 91.0)], MEASURED) == (Verdict.BACK, 0.0)


@pytest.mark.parametrize(
    ("use", "came", "found"),
    [
        (2.0, 1.55, Verdict.BACK),
        (2.0, 1.45, Verdict.WAIT),
        (0.4, -0.05, Verdict.BACK),
        (0.4, -0.2, Verdict.WAIT),
        (80.0, 72.1, Verdict.BACK),
        (80.0, 71.9, Verdict.WAIT),
    ],
)
def test_of_a_small_model_some_may_be_missing_because_others_take_as_much(
    use: float, came: float, found: Verdict
) -> None:
    expected = Expected(before=10 * GIB, use=round(use * GIB), measured=True)
    assert verdict([Reading(0.0, round((10 + came) * GIB))], expected, LIMIT) is found


def test_no_model_that_is_smaller_than_the_noise_waits_for_the_limit() -> None:
    small = Expected(before=10 * GIB, use=GIB // 10, measured=True)
    assert ended(steady(8, 60), small) == (Verdict.SETTLED, SETTLED_AFTER)


def test_slowly_and_the_wait_ends_when_nearly_all_is_there() -> None:
    rising = every(0.5, [10 + 4 * step for step in range(25)])  # 8 GiB a second
    assert ended(rising, MEASURED) == (Verdict.BACK, 9.0)


def test_late_but_then_all_of_it() -> None:
    assert ended([*steady(10, 12), (12.5, 89.0)], MEASURED) == (Verdict.BACK, 12.5)


@pytest.mark.parametrize("expected", [MEASURED, DECLARED])
def test_never_ends_at_the_limit_and_not_before(expected: Expected) -> None:
    assert ended(steady(10, 60), expected) == (Verdict.LATE, LIMIT)


def test_a_part_that_stays_ends_the_wait_when_it_has_stayed_for_a_while() -> None:
    """Another program has taken some of it meanwhile."""
    free = [(0.0, 10.0), (0.5, 40.0), *((0.5 + at, 60.0) for at, _ in steady(60, 10)[1:])]
    assert ended(free, MEASURED) == (Verdict.SETTLED, 1.0 + SETTLED_AFTER)


def test_a_small_part_is_enough_only_of_what_was_just_declared() -> None:
    """A declaration may be twice the use and more; what was measured is not."""
    free = [(0.0, 10.0), *((0.5 + at, 30.0) for at, _ in steady(30, 60))]
    assert ended(free, DECLARED) == (Verdict.SETTLED, 0.5 + SETTLED_AFTER)
    assert ended(free, MEASURED) == (Verdict.LATE, LIMIT)


def test_without_an_expectation_calm_is_enough() -> None:
    assert ended(steady(50, 10), None) == (Verdict.SETTLED, SETTLED_AFTER)
    rising = every(0.5, [20 + step for step in range(10)])
    assert ended([*rising, *((5.0 + at, 29.0) for at, _ in steady(29, 10))], None) == (
        Verdict.SETTLED,
        4.5 + SETTLED_AFTER,
    )


def test_others_that_take_memory_do_not_prolong_the_wait() -> None:
    """Falling, and up and down below what has been seen already, is no movement."""
    falling = every(0.5, [60 - step for step in range(100)])
    assert ended(falling, None) == (Verdict.SETTLED, SETTLED_AFTER)
    wobble = every(0.5, [60, 50, 59, 40, 58, 60, 41, 60, 55, 60])
    assert ended(wobble, MEASURED) == (Verdict.SETTLED, SETTLED_AFTER)


def test_small_noise_upward_is_no_movement_but_adds_up() -> None:
    step = NOISE / GIB
    noise = every(0.5, [60, 60 + step / 2, 60 + step, 60 + step / 2, 60 + step, 60])
    assert ended(noise, None) == (Verdict.SETTLED, SETTLED_AFTER)
    creeping = every(0.5, [20 + index * step * 0.9 for index in range(100)])
    assert ended(creeping, None) == (Verdict.LATE, LIMIT), "it rises for ever, and the limit ends it"


def test_others_that_give_memory_back_end_the_wait_early_at_worst() -> None:
    """It cannot be told apart; what must not happen is a wait without end."""
    assert ended([(0.0, 10.0), (0.5, 95.0)], MEASURED) == (Verdict.BACK, 0.5)


def test_no_limit_left_ends_at_once() -> None:
    assert verdict([Reading(0.0, 0)], MEASURED, 0.0) is Verdict.LATE
    assert verdict([Reading(0.0, 90 * GIB)], MEASURED, -1.0) is Verdict.BACK
