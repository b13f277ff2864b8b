"""Turns between callers, and what priority and share do to them."""

from __future__ import annotations

from collections import Counter

import pytest
from fleet import SLEEPING_LONG, in_phase, ready, snapshot, spec
from hypothesis import given
from hypothesis import strategies as st

from router.scheduler import Grant, Policy, Start, decide
from router.scheduling.fairness import HIGHEST_PRIORITY, NO_TURNS, Turns, deal, weight
from router.store.state import Phase, Waiting

pytestmark = pytest.mark.unit


def requests(*callers: str, **more: object) -> list[Waiting]:
    """One waiting request of each, in this order."""
    return [Waiting(f"{caller}{n}", "m", float(n), caller, **more) for n, caller in enumerate(callers)]  # type: ignore[arg-type]


def served(waiting: list[Waiting], count: int, lengths: dict[str, float] | None = None) -> list[str]:
    """The callers of the next requests, when places become free one at a time."""
    turns, order, left = NO_TURNS, [], list(waiting)
    for _ in range(count):
        (chosen,), turns = deal(left, 1, lengths or {}, 1.0, turns)
        order.append(next(request.caller for request in left if request.id == chosen))
        left = [request for request in left if request.id != chosen]
    return order


def test_all_are_served_where_there_is_place() -> None:
    assert deal(requests("a", "a", "b"), 3, {}, 1.0, Turns("b", {"b": 1.0})) == (["a0", "a1", "b2"], NO_TURNS)


def test_one_caller_is_served_in_order() -> None:
    assert deal(requests("a", "a", "a"), 2, {}, 1.0, NO_TURNS)[0] == ["a0", "a1"]


def test_a_caller_with_many_requests_does_not_delay_one_with_few() -> None:
    assert served(requests(*["hog"] * 50, "ada", "ada"), 4) == ["ada", "hog", "ada", "hog"]


def test_callers_get_time_not_requests() -> None:
    order = served(requests(*["long"] * 40, *["short"] * 40), 33, {"long": 10.0, "short": 1.0})
    assert 9 <= Counter(order)["short"] / Counter(order)["long"] <= 11


def test_a_share_of_three_is_three_times_the_time() -> None:
    waiting = [*requests(*["a"] * 40), *requests(*["b"] * 40, share=3.0)]
    assert Counter(served(waiting, 40)) == {"a": 10, "b": 30}


def test_low_priority_is_slow_and_not_starved() -> None:
    waiting = [*requests(*["child"] * 40, priority=-2), *requests(*["parent"] * 100)]
    counts = Counter(served(waiting, 50))
    assert counts["child"] == 10


def test_a_caller_that_has_nothing_left_saves_nothing_up() -> None:
    _, turns = deal(requests("a", "b", "b"), 1, {}, 1.0, Turns("a", {"a": 7.0}))
    assert "a" not in turns.earned


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(-99, 99), st.floats(0.0, 1e9)), max_size=40),
    st.integers(1, 10),
    st.dictionaries(st.sampled_from("abcd"), st.floats(0.0, 1e4)),
)
def test_nobody_is_forgotten_and_nobody_is_served_twice(
    wishes: list[tuple[str, int, float]], places: int, lengths: dict[str, float]
) -> None:
    waiting = [
        Waiting(str(number), "m", float(number), caller, priority=priority, share=share)
        for number, (caller, priority, share) in enumerate(wishes)
    ]
    left, turns, seen = list(waiting), NO_TURNS, []
    while left:
        chosen, turns = deal(left, places, lengths, 1.0, turns)
        assert len(chosen) == min(places, len(left))
        seen += chosen
        left = [request for request in left if request.id not in chosen]
        assert all(earned >= 0 for earned in turns.earned.values())
    assert sorted(seen, key=int) == [request.id for request in waiting]
    for caller in "abcd":  # each caller's requests in their own order
        own = [request.id for request in waiting if request.caller == caller]
        assert [each for each in seen if each in own] == own


def test_weights_are_bounded() -> None:
    greatest, least = Waiting("g", "m", 0, priority=99, share=1e9), Waiting("l", "m", 0, priority=-99, share=0)
    assert weight(greatest) == 10 * 2**HIGHEST_PRIORITY
    assert weight(least) == 0.1 / 2**HIGHEST_PRIORITY


# --- in decisions


def test_a_model_with_a_limit_serves_no_more_at_once() -> None:
    limited = spec("m", parallel=2)
    found = decide(snapshot((limited, ready(in_flight=1)), line=(("1", "m", 1), ("2", "m", 2))))
    assert found.actions == (Grant("m", ("1",), Turns("", {"": 0.0})),)
    assert decide(snapshot((limited, ready(in_flight=2)), line=(("1", "m", 1),))).actions == ()


A, B = spec("a"), spec("b")


def test_priority_between_models_is_age() -> None:
    """Late already, so it goes by age: a step of priority makes b one minute older."""
    asleep = SLEEPING_LONG
    for priority, first in ((0, "a"), (1, "b")):
        states = (A, asleep), (spec("b", priority=priority), asleep)
        late = (("1", "a", -9000.0), ("2", "b", -8970.0))
        assert decide(snapshot(*states, line=late, policy=Policy())).actions == (Start(first),)


def test_higher_priority_is_first_while_nobody_would_be_late() -> None:
    young = (("1", "a", 998.0), ("2", "a", 998.0), ("3", "b", 999.0))
    states = (A, SLEEPING_LONG), (B, SLEEPING_LONG)
    assert decide(snapshot(*states, line=young, policy=Policy())).actions == (Start("a"),)
    states = (A, SLEEPING_LONG), (spec("b", priority=1), SLEEPING_LONG)
    assert decide(snapshot(*states, line=young, policy=Policy())).actions == (Start("b"),)


def test_low_priority_is_served_when_it_is_late() -> None:
    states = (spec("a", priority=-5), SLEEPING_LONG), (B, SLEEPING_LONG)
    line = (("1", "a", -9000.0), ("2", "b", 999.0))
    assert decide(snapshot(*states, line=line, policy=Policy())).actions == (Start("a"),)


def test_phase_that_is_not_ready_grants_nothing() -> None:
    assert decide(snapshot((spec("m", parallel=1), in_phase(Phase.STARTING)), line=(("1", "m", 1),))).actions == ()
