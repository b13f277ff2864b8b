"""Hold, gate and minimum service, and what a load is learned to take."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from fleet import ASLEEP, ready, snapshot, spec

from router.scheduler import CloseGate, Decision, Grant, Policy, Start, Stop, decide
from router.scheduling import costs, gaps
from router.scheduling.turns import patience
from router.store.state import CallerState, ModelState, Phase, Waiting

A, B, C = (spec(name, idle_timeout=0.0) for name in "abc")
POLICY = Policy()
SLEEPING = ModelState(load_seconds=60, unload_seconds=5)
PATIENCE = patience(POLICY, 130.0)


def decision(state: ModelState, line: tuple[tuple[str, str, float], ...], now: float = 1000.0) -> Decision:
    return decide(snapshot((A, state), (B, SLEEPING), line=line, now=now, policy=POLICY))


def running(in_flight: int = 0, **fields: Any) -> ModelState:
    values = {"load_seconds": 60.0, "unload_seconds": 5.0, "service_seconds": 4.0, "ready_at": 100.0}
    return ready(in_flight, **(values | fields))


def test_caller_in_a_pause_is_waited_for_and_then_no_longer() -> None:
    state = running(callers={"x": CallerState(999.0)})
    found = decision(state, (("1", "b", 999.0),))
    assert found.actions == ()
    assert found.look_again_at is not None
    assert 1001 < found.look_again_at <= 999 + POLICY.hold_share * 130
    assert decision(state, (("1", "b", 999.0),), found.look_again_at).actions == (Stop("a", "making room for b"),)


def test_nobody_in_a_pause_is_a_swap_at_once() -> None:
    for callers in ({}, {"x": CallerState(800.0)}, {"x": CallerState(None)}):
        assert decision(running(callers=callers), (("1", "b", 999.0),)).actions == (Stop("a", "making room for b"),)


def test_who_is_away_for_long_is_not_waited_for() -> None:
    beyond = (0.0,) * 17 + (20.0,)
    state = running(callers={"x": CallerState(999.0, 0, beyond)}, gaps=beyond)
    assert decision(state, (("1", "b", 999.5),)).actions == (Stop("a", "making room for b"),)


def test_caller_who_waits_elsewhere_has_moved_on_until_it_was_seen_coming_back() -> None:
    def found(counts: tuple[float, ...]) -> Decision:
        states = ((A, running(callers={"x": CallerState(999.0, 0, counts)})), (B, SLEEPING))
        given = snapshot(*states, policy=POLICY)
        return decide(replace(given, state=replace(given.state, line=(Waiting("1", "b", 999.5, "x"),))))

    leave = (Stop("a", "making room for b"),)
    assert found(()).actions == leave
    assert found(gaps.observe((), math.inf, gaps.CALLER_MEMORY)).actions == leave
    assert found(gaps.observe((), 3.0, gaps.CALLER_MEMORY)).actions == ()


def test_gate_closes_in_time_for_the_oldest_and_not_before() -> None:
    state = running(1, callers={"x": CallerState(None, 1)})
    joined = 950.0
    closes = joined + PATIENCE - 60 - 5 - 4  # the load, the unload and the request that runs
    found = decision(state, (("1", "b", joined),))
    assert (found.actions, found.look_again_at) == ((), closes)
    assert decision(state, (("1", "b", joined),), closes).actions == (CloseGate("a", "making room for b"),)


def test_hold_ends_at_the_deadline() -> None:
    joined = 1000 - PATIENCE + 60 + 5 + 1
    found = decision(running(callers={"x": CallerState(999.9)}), (("1", "b", joined),))
    assert found.actions == ()
    assert found.look_again_at is not None
    assert abs(found.look_again_at - 1001) < 1e-6


def test_minimum_service_comes_before_the_deadline() -> None:
    state = running(1, ready_at=990.0, callers={"x": CallerState(None, 1)})
    found = decision(state, (("1", "b", 1.0),))
    assert (found.actions, found.look_again_at) == ((), 990 + POLICY.minimum_service)
    assert decision(state, (("1", "b", 1.0),), 1050.0).actions == (CloseGate("a", "making room for b"),)


def test_fresh_model_serves_those_who_waited_for_it_although_another_is_late() -> None:
    state = running(ready_at=1000.0)
    assert decision(state, (("1", "b", 1.0), ("2", "a", 2.0))).actions == (Grant("a", ("2",)),)


def test_most_work_per_second_is_first_while_nobody_is_late() -> None:
    slow = ModelState(load_seconds=280, unload_seconds=8)
    line = (("1", "c", 990.0), ("2", "b", 995.0), ("3", "b", 996.0))
    assert decide(snapshot((B, SLEEPING), (C, slow), line=line, policy=POLICY)).actions == (Start("b"),)
    late = (("1", "c", 100.0), *line[1:])
    assert decide(snapshot((B, SLEEPING), (C, slow), line=late, policy=POLICY)).actions == (Start("c"),)


def test_a_small_model_starts_beside_the_one_that_is_held() -> None:
    tiny = spec("tiny", 1)
    state = running(callers={"x": CallerState(999.0)})
    line = (("1", "b", 998.0), ("2", "tiny", 999.0))
    found = decide(snapshot((A, state), (B, SLEEPING), (tiny, ASLEEP), line=line, policy=POLICY))
    assert Start("tiny") in found.actions
    assert all(not isinstance(action, Stop | CloseGate) for action in found.actions)


def test_learned_cost_bears_an_outlier() -> None:
    assert costs.average(None, 60.0) == 60.0
    assert 60 < costs.average(60.0, 6000.0) < 100
    known: float | None = None
    for _ in range(20):
        known = costs.average(known, 30.0)
    assert known == 30.0
    assert costs.load(ModelState(phase=Phase.ASLEEP)) == costs.ASSUMED_LOAD


def test_model_that_has_given_way_is_not_next_before_those_that_it_gave_way_to() -> None:
    cheap = replace(SLEEPING, load_seconds=10.0)
    line = (("1", "b", 990.0), ("2", "a", 1000.5))
    for since, next_one in ((1000.0, "b"), (980.0, "a")):
        found = decide(snapshot((A, replace(cheap, since=since)), (B, SLEEPING), line=line, now=1001.0, policy=POLICY))
        assert found.actions == (Start(next_one),), since


def test_higher_priority_is_next_though_its_model_has_given_way() -> None:
    cheap = replace(SLEEPING, load_seconds=10.0, since=1000.0)
    urgent = A.model_copy(update={"priority": 1})
    line = (("1", "b", 990.0), ("2", "a", 1000.5))
    found = decide(snapshot((urgent, cheap), (B, SLEEPING), line=line, now=1001.0, policy=POLICY))
    assert found.actions == (Start("a"),)
