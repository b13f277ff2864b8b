"""The scheduler's rules, one by one."""

from __future__ import annotations

import dataclasses

import pytest
from fleet import ASLEEP, SLEEPING_LONG, in_phase, ready, snapshot, spec

from router.scheduler import (
    STRICT,
    Action,
    CloseGate,
    Grant,
    OpenGate,
    Policy,
    Refuse,
    Snapshot,
    Start,
    Stop,
    decide,
    fits_now,
    outlook,
)
from router.scheduling.turns import claims, ranked
from router.settings import Role
from router.store.state import ModelState, Phase

A, B, C = spec("a"), spec("b"), spec("c")
SMALL, TINY = spec("small", 3), spec("tiny", 1)
ALONE = spec("alone", 2, Role.EXCLUSIVE)
UTILITY = spec("utility", 2, Role.UTILITY)


def actions(found: Snapshot) -> list[Action]:
    return list(decide(found).actions)


def test_nothing_to_do_is_nothing_done() -> None:
    decision = decide(snapshot((A, ASLEEP), (B, ASLEEP)))
    assert decision.actions == ()
    assert decision.look_again_at is None


def test_request_starts_its_model() -> None:
    assert actions(snapshot((A, ASLEEP), (B, ASLEEP), line=(("1", "a", 999),))) == [Start("a")]


def test_wish_starts_a_model_without_a_request() -> None:
    assert actions(snapshot((A, in_phase(Phase.ASLEEP, wanted=5)))) == [Start("a")]


def test_ready_model_serves_all_who_wait_for_it_oldest_first() -> None:
    line = (("2", "a", 999), ("1", "a", 998), ("3", "b", 1))
    found = actions(snapshot((A, ready()), (SMALL, ASLEEP), line=line))
    assert found == [Grant("a", ("1", "2"))]


def test_models_run_side_by_side_while_they_fit() -> None:
    assert actions(snapshot((A, ready()), (SMALL, ASLEEP), line=(("1", "small", 999),))) == [Start("small")]


def test_two_that_wait_start_together_when_both_fit() -> None:
    line = (("1", "small", 998), ("2", "a", 999), ("3", "b", 997))
    found = actions(snapshot((A, ASLEEP), (B, ASLEEP), (SMALL, ASLEEP), line=line))
    assert found == [Start("b"), Start("small")], "a is larger than what is left"


def test_model_that_does_not_fit_waits_for_what_runs_to_finish() -> None:
    line = (("1", "b", 999),)
    assert actions(snapshot((A, ready(2)), (B, ASLEEP), line=line)) == [CloseGate("a", "making room for b")]
    draining = in_phase(Phase.DRAINING, since=990, in_flight=2)
    decision = decide(snapshot((A, draining), (B, ASLEEP), line=line))
    assert decision.actions == ()
    assert decision.look_again_at == 990 + A.drain_timeout
    draining = dataclasses.replace(draining, in_flight=0)
    assert actions(snapshot((A, draining), (B, ASLEEP), line=line)) == [Stop("a", "making room for b")]
    assert actions(snapshot((A, in_phase(Phase.STOPPING)), (B, ASLEEP), line=line)) == []
    assert actions(snapshot((A, ASLEEP), (B, ASLEEP), line=line)) == [Start("b")]


def test_idle_model_makes_room_at_once() -> None:
    assert actions(snapshot((A, ready()), (B, ASLEEP), line=(("1", "b", 999),))) == [Stop("a", "making room for b")]


def test_those_who_waited_for_a_model_are_served_before_it_makes_room() -> None:
    line = (("1", "b", 998), ("2", "a", 999))
    found = actions(snapshot((A, ready()), (B, ASLEEP), line=line))
    assert found == [Grant("a", ("2",)), CloseGate("a", "making room for b")]


def test_drain_limit_ends_patience() -> None:
    draining = in_phase(Phase.DRAINING, since=1000 - A.drain_timeout, in_flight=1)
    found = actions(snapshot((A, draining), (B, ASLEEP), line=(("1", "b", 999),)))
    assert found == [Stop("a", "making room for b", force=True)]


def test_gate_opens_again_when_nobody_needs_the_room_any_more() -> None:
    draining = in_phase(Phase.DRAINING, in_flight=1)
    found = actions(snapshot((A, draining), (B, ASLEEP), line=(("1", "a", 999),)))
    assert found == [OpenGate("a"), Grant("a", ("1",))]


def test_newcomers_of_a_closed_model_wait() -> None:
    draining = in_phase(Phase.DRAINING, since=999, in_flight=1)
    assert actions(snapshot((A, draining), (B, ASLEEP), line=(("1", "b", 998), ("2", "a", 999)))) == []


def test_longest_wait_is_next() -> None:
    line = (("1", "b", 999), ("2", "c", 998))
    assert actions(snapshot((A, ASLEEP), (B, ASLEEP), (C, ASLEEP), line=line)) == [Start("c")]


def test_younger_request_does_not_take_the_room_that_an_older_one_waits_for() -> None:
    stopping = in_phase(Phase.STOPPING)
    line = (("1", "b", 998), ("2", "c", 999))
    medium = spec("c", 5)
    found = snapshot((spec("a", 3), stopping), (spec("b", 9), ASLEEP), (medium, ASLEEP), line=line)
    assert fits_now(found, "c")
    assert actions(found) == [], "c fits beside a now, and then b would not"


def test_younger_request_uses_room_that_the_older_one_leaves() -> None:
    line = (("1", "b", 998), ("2", "tiny", 999))
    found = actions(snapshot((A, ready(1)), (B, ASLEEP), (TINY, ASLEEP), line=line))
    assert found == [CloseGate("a", "making room for b"), Start("tiny")]


def test_only_the_longest_wait_keeps_room_from_younger_ones() -> None:
    line = (("1", "b", 997), ("2", "c", 998), ("3", "tiny", 999))
    found = actions(snapshot((A, ready(1)), (B, ASLEEP), (C, ASLEEP), (TINY, ASLEEP), line=line))
    assert found == [CloseGate("a", "making room for b"), Start("tiny")]


@pytest.mark.parametrize(("patience", "started"), [(2500.0, [Start("small")]), (0.0, [])], ids=["in time", "late"])
def test_nobody_younger_gets_into_the_way_of_who_is_late(patience: float, started: list[Action]) -> None:
    """While b waits for a's last answer, small fits beside both; but then c, which is next, has to wait for small."""
    b, c = (spec(name, memory) for name, memory in (("b", 6), ("c", 9)))
    line = (("1", "b", 997), ("2", "c", 998), ("3", "small", 999))
    policy = dataclasses.replace(STRICT, patience=patience, planned_residency=0.0)
    draining = in_phase(Phase.DRAINING, since=990, in_flight=1)
    quick = dataclasses.replace(SLEEPING_LONG, load_seconds=10.0)
    states = ((A, draining), (b, quick), (c, SLEEPING_LONG), (SMALL, ASLEEP))
    assert actions(snapshot(*states, line=line, policy=policy)) == started


def test_a_utility_does_not_come_back_into_the_way_of_who_is_late() -> None:
    line = (("1", "b", 997), ("2", "c", 998))
    models = ((A, ready(1)), (spec("b", 6), ASLEEP), (spec("c", 9), ASLEEP), (UTILITY, ASLEEP))
    assert actions(snapshot(*models, line=line)) == [CloseGate("a", "making room for b")]


def test_who_waits_for_one_gpu_keeps_its_room_on_the_others() -> None:
    room = {"0": 10, "1": 10}
    both, other = spec("both", gpus=("0", "1")), spec("other", gpus=("1",))
    line = (("1", "b", 997), ("2", "both", 998), ("3", "other", 999))
    found = snapshot((A, ready(1)), (B, ASLEEP), (both, ASLEEP), (other, ASLEEP), line=line, room=room)
    assert actions(found) == [CloseGate("a", "making room for b")]


def test_least_recently_used_gives_way() -> None:
    ages = {"x": 965.0, "y": 964.0, "z": 966.0}
    models = [(spec(name, 3), ready(last_used=age)) for name, age in ages.items()]
    found = actions(snapshot(*models, (spec("b", 3), ASLEEP), line=(("1", "b", 999),)))
    assert found == [Stop("y", "making room for b")]


@pytest.mark.parametrize(
    ("reluctant", "willing"),
    [
        (ready(1, last_used=961), ready(0, last_used=969)),
        (ready(0, last_used=961, pinned=True), ready(1, last_used=969)),
    ],
)
def test_busy_and_pinned_models_give_way_last(reluctant: object, willing: object) -> None:
    models = ((spec("x", 5), reluctant), (spec("y", 5), willing), (spec("b", 5), ASLEEP))
    found = actions(snapshot(*models, line=(("1", "b", 999),)))  # type: ignore[arg-type]
    assert len(found) == 1
    assert found[0].model == "y"


def test_model_that_loads_in_no_time_gives_way_at_the_moment_of_its_use() -> None:
    at_once = ready(last_used=1000.0, load_seconds=0.0, unload_seconds=0.0)
    found = actions(snapshot((A, at_once), (B, ASLEEP), line=(("1", "b", 990),)))
    assert found == [Stop("a", "making room for b")]


def test_only_as_many_leave_as_have_to() -> None:
    ages = {"tiny": (1, 961.0), "x": (6, 962.0), "y": (3, 963.0)}
    models = [(spec(name, memory), ready(last_used=age)) for name, (memory, age) in ages.items()]
    found = actions(snapshot(*models, (spec("b", 6), ASLEEP), line=(("1", "b", 999),)))
    assert found == [Stop("x", "making room for b")], "tiny was the first choice and turned out not to be needed"


def test_utility_is_the_last_to_give_way() -> None:
    models = ((UTILITY, ready(last_used=961)), (A, ready(1, last_used=969)), (spec("b", 8), ASLEEP))
    found = actions(snapshot(*models, line=(("1", "b", 999),)))
    assert found == [CloseGate("a", "making room for b")]


def test_utility_starts_by_itself_and_comes_back_by_itself_and_makes_nobody_leave() -> None:
    assert actions(snapshot((UTILITY, ASLEEP))) == [Start("utility")]
    assert actions(snapshot((UTILITY, ASLEEP), (spec("a", 9), ready()))) == []
    assert actions(snapshot((UTILITY, in_phase(Phase.ASLEEP, sleep="drain")))) == [], "an admin put it to sleep"


@pytest.mark.parametrize("utility", [ASLEEP, in_phase(Phase.STARTING), ready()])
def test_utility_that_comes_back_does_not_change_whose_turn_it_is(utility: ModelState) -> None:
    """Else it could be broken off for who is first then, come back, and be broken off again, while they wait."""
    costs = {"load_seconds": 30.0, "unload_seconds": 0.0}
    line = (("1", "old", 900), ("2", "new", 980), ("3", "new", 980), ("4", "new", 980))
    models = (
        (UTILITY, dataclasses.replace(utility, load_seconds=280.0, unload_seconds=0.0)),
        (spec("leaving", 8), in_phase(Phase.DRAINING, in_flight=1, since=999, **costs)),
        (spec("old", 8), in_phase(Phase.ASLEEP, **costs)),
        (spec("new", 8), in_phase(Phase.ASLEEP, **costs)),
    )
    found = snapshot(*models, line=line, policy=Policy(patience=500.0))
    assert ranked(found, claims(found, found.waiting()))[0] == ["new", "old"]


def test_utility_asleep_in_the_way_of_nobody_yields_to_who_waits() -> None:
    found = actions(snapshot((UTILITY, ASLEEP), (spec("a", 9), ASLEEP), line=(("1", "a", 999),)))
    assert found == [Start("a")]


def test_exclusive_model_is_alone() -> None:
    line = (("1", "alone", 999),)
    found = actions(snapshot((ALONE, ASLEEP), (TINY, ready()), (UTILITY, ready(1)), line=line))
    assert found == [Stop("tiny", "making room for alone"), CloseGate("utility", "making room for alone")]
    found = actions(snapshot((ALONE, ready()), (TINY, ASLEEP), (UTILITY, ASLEEP), line=(("1", "tiny", 999),)))
    assert found == [Stop("alone", "making room for tiny")]
    assert not fits_now(snapshot((ALONE, ready()), (TINY, ASLEEP)), "tiny")
    assert not fits_now(snapshot((ALONE, ASLEEP), (TINY, in_phase(Phase.STOPPING))), "alone")


def test_gpus_are_apart() -> None:
    room = {"0": 10, "1": 10}
    other = spec("other", gpus=("1",))
    both = spec("both", gpus=("0", "1"))
    found = snapshot((A, ready(1)), (other, ASLEEP), line=(("1", "other", 999),), room=room)
    assert actions(found) == [Start("other")]
    found = snapshot((A, ready(1)), (other, ready(1)), (both, ASLEEP), line=(("1", "both", 999),), room=room)
    assert {each.model for each in actions(found)} == {"a", "other"}
    waits = snapshot((A, ready(1)), (both, ASLEEP), (other, ASLEEP), line=(("1", "both", 998), ("2", "other", 999)),
                     room=room)  # fmt: skip
    assert actions(waits) == [CloseGate("a", "making room for both")], "GPU 1 is kept for who has waited longer"


def test_load_that_somebody_waits_for_is_not_broken_off() -> None:
    line = (("1", "a", 998), ("2", "b", 999))
    assert actions(snapshot((A, in_phase(Phase.STARTING)), (B, ASLEEP), line=line)) == []
    line = (("1", "b", 997), ("2", "a", 999))
    assert actions(snapshot((A, in_phase(Phase.STARTING)), (B, ASLEEP), line=line)) == []


def test_load_that_nobody_waits_for_is_broken_off_when_the_room_is_needed() -> None:
    line = (("1", "b", 999),)
    assert actions(snapshot((A, in_phase(Phase.STARTING)), (B, ASLEEP))) == []
    found = actions(snapshot((A, in_phase(Phase.STARTING)), (B, ASLEEP), line=line))
    assert found == [Stop("a", "making room for b")]
    assert actions(snapshot((A, in_phase(Phase.STARTING, wanted=1)), (B, ASLEEP), line=line)) == []
    assert actions(snapshot((A, in_phase(Phase.STARTING, in_flight=1)), (B, ASLEEP), line=line)) == [], "adopted, busy"


def test_idle_model_stops_when_its_time_has_come_and_not_before() -> None:
    decision = decide(snapshot((A, ready(last_used=990))))
    assert decision.actions == ()
    assert decision.look_again_at == 990 + A.idle_timeout
    assert actions(snapshot((A, ready(last_used=1000 - A.idle_timeout)))) == [Stop("a", "idle")]


@pytest.mark.parametrize(
    ("kept", "state"),
    [
        (A, ready(1, last_used=0)),
        (A, ready(last_used=0, pinned=True)),
        (UTILITY, ready(last_used=0)),
        (spec("never", idle_timeout=0.0), ready(last_used=0)),
    ],
    ids=["busy", "pinned", "utility", "no timeout"],
)
def test_model_that_is_kept(kept: object, state: object) -> None:
    assert actions(snapshot((kept, state))) == []  # type: ignore[arg-type]


def test_idle_time_of_a_busy_model_cannot_end_before_a_whole_timeout() -> None:
    assert decide(snapshot((A, ready(1, last_used=0)))).look_again_at == 1000 + A.idle_timeout


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (ready(sleep="drain"), [Stop("a", "asked to sleep")]),
        (ready(1, sleep="drain"), [CloseGate("a", "asked to sleep")]),
        (ready(1, sleep="force"), [Stop("a", "asked to sleep", force=True)]),
        (in_phase(Phase.DRAINING, since=999, in_flight=1, sleep="drain"), []),
        (in_phase(Phase.DRAINING, since=999, in_flight=1, sleep="force"), [Stop("a", "asked to sleep", force=True)]),
        (in_phase(Phase.STARTING, sleep="drain"), [Stop("a", "asked to sleep")]),
        (in_phase(Phase.STARTING, in_flight=1, sleep="drain"), []),
        (in_phase(Phase.STARTING, in_flight=1, sleep="force"), [Stop("a", "asked to sleep", force=True)]),
        (in_phase(Phase.STOPPING, sleep="force"), []),
        (in_phase(Phase.ASLEEP, sleep="drain"), []),
    ],
)
def test_asked_to_sleep(state: object, expected: list[Action]) -> None:
    assert actions(snapshot((A, state))) == expected  # type: ignore[arg-type]


def test_failed_model_is_left_alone_until_its_time() -> None:
    failed = in_phase(Phase.FAILED, retry_at=1010)
    decision = decide(snapshot((A, failed), line=(("1", "a", 999),)))
    assert decision.actions == ()
    assert decision.look_again_at == 1010
    assert actions(snapshot((A, failed), line=(("1", "a", 999),), now=1010)) == [Start("a")]


def test_failed_model_keeps_no_place_from_others() -> None:
    line = (("1", "a", 990), ("2", "b", 999))
    assert actions(snapshot((A, in_phase(Phase.FAILED, retry_at=1010)), (B, ASLEEP), line=line)) == [Start("b")]


def test_model_larger_than_its_gpu_is_refused() -> None:
    huge = spec("huge", 11)
    found = actions(snapshot((huge, ASLEEP), (A, ready()), line=(("1", "huge", 1), ("2", "huge", 2))))
    assert found == [Refuse("huge", ("1", "2"))]


def test_request_for_an_unknown_model_disturbs_nobody() -> None:
    assert actions(snapshot((A, ASLEEP), line=(("1", "unknown", 1), ("2", "a", 2)))) == [Start("a")]


def test_decision_is_the_same_each_time() -> None:
    found = snapshot((A, ready(1)), (B, ASLEEP), (TINY, ASLEEP), line=(("1", "b", 998), ("2", "tiny", 999)))
    assert decide(found) == decide(found)


# --- what callers are told


def test_forecast_of_a_ready_model_is_zero_and_of_a_sleeping_one_its_load() -> None:
    found = outlook(snapshot((A, ready()), (SMALL, in_phase(Phase.ASLEEP, load_seconds=33)), (TINY, ASLEEP))).expected
    assert found == {"a": 0.0, "small": 33.0, "tiny": None}


@pytest.mark.parametrize("line", [(), (("1", "a", 999),)])
def test_forecast_of_a_loading_model_is_the_rest_of_its_load(line: tuple[tuple[str, str, float], ...]) -> None:
    loading = in_phase(Phase.STARTING, since=990, load_seconds=30)
    assert outlook(snapshot((A, loading), line=line)).expected == {"a": 20.0}


def test_forecast_of_a_late_load_is_never_now() -> None:
    assert outlook(snapshot((A, in_phase(Phase.STARTING, since=0, load_seconds=30)))).expected == {"a": 1.5}


def test_forecast_counts_the_swaps_that_come_first() -> None:
    states = ((A, ready(1, service_seconds=4, unload_seconds=2)), (B, in_phase(Phase.ASLEEP, load_seconds=10)),
              (C, in_phase(Phase.ASLEEP, load_seconds=20)))  # fmt: skip
    found = outlook(snapshot(*states, line=(("1", "b", 1), ("2", "c", 2)))).expected
    assert found["a"] == 0.0
    assert found["b"] == 4 + 2 + 10
    assert found["c"] == found["b"] + 4 + 2 + 20


def test_what_a_request_is_told_does_not_lean_on_the_age_of_another() -> None:
    """Whoever has waited longer for the same model may leave, and then the request for b is the older one."""
    states = ((A, ready(1, load_seconds=10.0, longest_load=10.0)), (B, SLEEPING_LONG), (C, SLEEPING_LONG))
    policy = dataclasses.replace(STRICT, patience=100.0)
    alone = outlook(snapshot(*states, line=(("2", "b", 998), ("3", "c", 999)), policy=policy))
    found = outlook(snapshot(*states, line=(("1", "c", 900), ("2", "b", 998), ("3", "c", 999)), policy=policy))
    assert found.waiting_at_most["c"] == alone.waiting_at_most["c"]
    assert found.waiting_at_most["b"] > alone.waiting_at_most["b"], "the older one for c counts against b"
    assert found.waiting_at_most["c"] <= found.at_most["c"]
    assert set(found.waiting_at_most) == {"b", "c"}


def test_every_model_has_a_forecast() -> None:
    models = [(spec(phase, 6), in_phase(phase)) for phase in Phase]
    line = tuple((str(each), phase, float(each)) for each, phase in enumerate(Phase))
    assert set(outlook(snapshot(*models, line=line)).expected) == set(Phase)


def test_room_is_made_for_one_at_a_time() -> None:
    models = [(spec(name, 5), ready(last_used=age)) for name, age in (("x", 961.0), ("y", 962.0))]
    line = (("1", "b", 998), ("2", "c", 999))
    found = actions(snapshot(*models, (spec("b", 5), ASLEEP), (spec("c", 5), ASLEEP), line=line))
    assert found == [Stop("x", "making room for b")]


def test_who_is_leaving_goes_on_leaving() -> None:
    """Otherwise two models would take turns in closing their gates."""
    draining = in_phase(Phase.DRAINING, since=999, in_flight=1, last_used=969)
    models = ((spec("x", 5), draining), (spec("y", 5), ready(1, last_used=961)), (spec("b", 5), ASLEEP))
    assert actions(snapshot(*models, line=(("1", "b", 999),))) == []
