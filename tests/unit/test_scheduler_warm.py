"""The scheduler's rules for models that should be warm: what they may take, and that nobody who waits loses by them."""

from __future__ import annotations

import dataclasses
from typing import Any

import fleet
import pytest
from fleet import ASLEEP, in_phase, ready, snapshot

from router.config import ModelSpec
from router.scheduler import Action, CloseGate, Grant, Snapshot, Start, Stop, Warm, Wish, decide
from router.scheduling.gaps import HORIZON
from router.scheduling.policy import Policy
from router.scheduling.warm import Strength
from router.settings import Role
from router.store.state import CallerState, ModelState, Phase


def spec(name: str, memory: int = 6, role: Role = Role.NORMAL, **fields: Any) -> ModelSpec:
    """A model that is idle for long before it stops."""
    return fleet.spec(name, memory, role, **({"idle_timeout": 1000.0} | fields))


A, B = spec("a"), spec("b")
SMALL, TINY = spec("small", 3), spec("tiny", 1)
UTILITY = spec("utility", 2, Role.UTILITY)
PRELOAD = Wish("preload", Strength.ROOM)
#: A schedule that began at 900; the snapshots are of 1000.
SCHEDULE = Wish("schedule", Strength.CLEAR, 2000.0, since=900.0)
DEFAULT = Wish("default", Strength.CLEAR, since=990.0)
STAY = Wish("default", Strength.STAY)
#: Ready: nobody has asked for it since it was loaded; it was used, and its callers have gone; so long ago that without
#: a wish it would have been stopped.
UNUSED = ModelState(Phase.READY, ready_at=950.0, last_used=950.0)
LEFT = ModelState(Phase.READY, ready_at=800.0, last_used=1000.0 - HORIZON)
FORGOTTEN = ModelState(Phase.READY, ready_at=-100.0, last_used=-50.0)


def actions(found: Snapshot) -> list[Action]:
    return list(decide(found).actions)


def test_warm_model_is_loaded_into_free_memory_and_the_event_says_why() -> None:
    assert actions(snapshot((A, ASLEEP), warm={"a": PRELOAD})) == [Start("a", "preload")]
    assert actions(snapshot((A, ASLEEP), warm={"a": SCHEDULE})) == [Start("a", "schedule")]
    assert actions(snapshot((A, ASLEEP), warm={"a": STAY})) == []


def test_warm_models_are_loaded_in_their_order_while_they_fit() -> None:
    models = ((A, ASLEEP), (B, ASLEEP), (SMALL, ASLEEP))
    wishes = {"b": PRELOAD, "a": PRELOAD, "small": PRELOAD}
    assert actions(snapshot(*models, warm=wishes)) == [Start("b", "preload"), Start("small", "preload")]


@pytest.mark.parametrize("wish", [PRELOAD, SCHEDULE, STAY])
def test_warm_model_is_not_stopped_for_idleness(wish: Wish) -> None:
    assert actions(snapshot((A, FORGOTTEN), warm={"a": wish})) == []
    assert actions(snapshot((A, FORGOTTEN))) == [Stop("a", "idle")], "when it is over it is"


def test_decision_is_looked_at_again_when_the_wishes_change() -> None:
    found = dataclasses.replace(snapshot((A, ASLEEP), (B, ready())), warm=Warm({}, 1001.5))
    assert decide(found).look_again_at == 1001.5


def test_preload_makes_nobody_leave() -> None:
    assert actions(snapshot((A, ASLEEP), (B, LEFT), warm={"a": PRELOAD})) == []


# --- making room for a warm model


@pytest.mark.parametrize("wish", [SCHEDULE, dataclasses.replace(DEFAULT, since=1000.0)])
def test_idle_model_leaves_for_a_strong_wish(wish: Wish) -> None:
    found = actions(snapshot((A, ASLEEP), (B, LEFT), warm={"a": wish}))
    assert found == [Stop("b", f"making room for a ({wish.reason})")]
    assert actions(snapshot((A, ASLEEP), (B, in_phase(Phase.STOPPING)), warm={"a": wish})) == []


@pytest.mark.parametrize(
    "state",
    [
        ready(1, last_used=0.0),
        ready(last_used=0.0, pinned=True),
        in_phase(Phase.STARTING),
        ready(last_used=950.0),
    ],
    ids=["busy", "pinned", "loading", "asked for since the wish began"],
)
def test_who_does_not_leave_for_a_strong_wish(state: ModelState) -> None:
    b = spec("b", idle_timeout=0.0)
    assert actions(snapshot((A, ASLEEP), (b, state), warm={"a": SCHEDULE})) == []
    assert actions(snapshot((A, ASLEEP), (b, state), warm={"a": SCHEDULE}, now=5000.0)) == []


def test_callers_in_a_pause_are_waited_for_before_a_model_leaves_for_a_strong_wish() -> None:
    decision = decide(snapshot((A, ASLEEP), (B, ready(last_used=899.0)), warm={"a": SCHEDULE}))
    assert decision.actions == ()
    assert decision.look_again_at == 899.0 + HORIZON
    later = snapshot(
        (A, ASLEEP), (spec("b", idle_timeout=0.0), ready(last_used=899.0)), warm={"a": SCHEDULE}, now=899.0 + HORIZON
    )
    assert actions(later) == [Stop("b", "making room for a (schedule)")]


def test_who_is_waited_for_does_not_leave_for_a_strong_wish() -> None:
    found = actions(snapshot((A, ASLEEP), (B, LEFT), line=(("1", "b", 999),), warm={"a": SCHEDULE}))
    assert found == [Grant("b", ("1",))]


def test_only_those_leave_who_help() -> None:
    busy = ready(1)
    assert actions(snapshot((A, ASLEEP), (B, busy), (SMALL, LEFT), warm={"a": SCHEDULE})) == []
    assert actions(snapshot((A, ASLEEP), (spec("x", 4), LEFT), (SMALL, LEFT), warm={"a": SCHEDULE})) == [
        Stop("small", "making room for a (schedule)")
    ]


def test_utility_that_nobody_uses_leaves_for_a_default_that_is_exclusive_and_does_not_push_it_out_again() -> None:
    alone = spec("alone", 5, Role.EXCLUSIVE)
    loaded = ModelState(Phase.READY, ready_at=995.0, last_used=995.0)
    wish = {"alone": DEFAULT}
    assert actions(snapshot((alone, ASLEEP), (UTILITY, loaded), warm=wish)) == [
        Stop("utility", "making room for alone (default)")
    ]
    assert actions(snapshot((alone, ASLEEP), (UTILITY, ASLEEP), warm=wish)) == [Start("alone", "default")]
    assert actions(snapshot((alone, UNUSED), (UTILITY, ASLEEP), warm=wish)) == []


def test_utilities_come_back_before_preloads() -> None:
    found = actions(snapshot((spec("p", 9), ASLEEP), (UTILITY, ASLEEP), warm={"p": PRELOAD}))
    assert found == [Start("utility")]


# --- warm models among themselves


@pytest.mark.parametrize("second", [SCHEDULE, DEFAULT, PRELOAD])
@pytest.mark.parametrize("state", [in_phase(Phase.STARTING), UNUSED, LEFT])
def test_first_of_two_that_do_not_fit_is_warm_and_stays_so(second: Wish, state: ModelState) -> None:
    wishes = {"a": SCHEDULE, "b": second}
    assert actions(snapshot((B, ASLEEP), (A, ASLEEP), warm=wishes)) == [Start("a", "schedule")]
    assert actions(snapshot((B, state), (A, ASLEEP), warm=wishes)) == [Stop("b", "making room for a (schedule)")]
    assert actions(snapshot((B, ASLEEP), (A, state), warm=wishes)) == [], "no war"


def test_preload_does_not_push_out_one_that_is_named_after_it() -> None:
    assert actions(snapshot((A, ASLEEP), (B, UNUSED), warm={"a": PRELOAD, "b": PRELOAD})) == []


# --- those who wait


@pytest.mark.parametrize("wish", [PRELOAD, SCHEDULE, STAY])
@pytest.mark.parametrize("state", [UNUSED, in_phase(Phase.STARTING), FORGOTTEN])
def test_model_that_runs_for_a_wish_alone_gives_way_at_once(wish: Wish, state: ModelState) -> None:
    """Before one that was used a moment ago, though its own load is younger."""
    used = spec("x", 3)
    found = actions(snapshot((SMALL, state), (used, ready(last_used=940.0)), (spec("b", 5), ASLEEP),
                             line=(("1", "b", 999),), warm={"small": wish}))  # fmt: skip
    assert found == [Stop("small", "making room for b")]


def test_warm_model_that_was_used_is_like_any_other() -> None:
    models = ((spec("w", 3), ready(last_used=965.0)), (spec("x", 3), ready(last_used=950.0)), (spec("b", 5), ASLEEP))
    found = actions(snapshot(*models, line=(("1", "b", 999),), warm={"w": PRELOAD}))
    assert found == [Stop("x", "making room for b")]


@pytest.mark.parametrize("w", [dataclasses.replace(FORGOTTEN, in_flight=1), UNUSED, in_phase(Phase.STARTING)])
def test_warm_model_that_is_served_or_waited_for_is_like_any_other(w: ModelState) -> None:
    line = [("1", "b", 998)] + ([] if w.in_flight else [("2", "w", 999)])
    models = ((spec("w", 5), w), (spec("x", 5), ready(last_used=920.0)), (spec("b", 5), ASLEEP))
    found = actions(snapshot(*models, line=tuple(line), warm={"w": PRELOAD}))
    assert Stop("x", "making room for b") in found
    assert not any(each.model == "w" and isinstance(each, Stop | CloseGate) for each in found)


def test_spares_leave_for_everybody_who_would_start_without_them() -> None:
    """Also for the younger of two, at the same time; and what stays is what fits beside all of them."""
    room = {"0": 20}
    models = (
        (spec("p", 6), UNUSED),
        (spec("q", 6), UNUSED),
        (TINY, UNUSED),
        (spec("b", 9), ASLEEP),
        (spec("c", 9), ASLEEP),
    )
    wishes = {"p": PRELOAD, "q": PRELOAD, "tiny": PRELOAD}
    found = actions(snapshot(*models, line=(("1", "b", 998), ("2", "c", 999)), warm=wishes, room=room))
    assert found == [Stop("p", "making room for b"), Stop("q", "making room for b")]


def test_who_waits_gets_the_memory_that_a_spare_would_keep_him_from() -> None:
    """A spare that will fit beside all when a stop is over leaves, if it is in the way until then."""
    models = ((spec("z", 4), in_phase(Phase.STOPPING)), (spec("p", 3), UNUSED), (spec("b", 5), ASLEEP))
    found = actions(snapshot(*models, line=(("1", "b", 999),), warm={"p": PRELOAD}))
    assert found == [Stop("p", "making room for b")]


def test_nothing_warm_is_loaded_while_somebody_waits_for_a_load_there() -> None:
    line = (("1", "b", 999),)
    models = ((TINY, ASLEEP), (SMALL, LEFT))
    wishes = {"tiny": SCHEDULE}
    assert actions(snapshot((spec("b", 2), ASLEEP), *models, line=line, warm=wishes)) == [Start("b")]
    assert actions(snapshot((spec("b", 2), in_phase(Phase.STARTING)), *models, line=line, warm=wishes)) == []
    found = actions(snapshot((spec("b", 2), ready()), *models, line=line, warm=wishes))
    assert found == [Grant("b", ("1",)), Start("tiny", "schedule")], "who is served at once waits for no load"
    other = spec("other", 2, gpus=("1",))
    found = actions(snapshot((spec("b", 2), in_phase(Phase.STARTING)), (other, ASLEEP), line=line,
                             warm={"other": PRELOAD}, room={"0": 10, "1": 10}))  # fmt: skip
    assert found == [Start("other", "preload")]


def test_warm_model_comes_back_when_nobody_waits_any_more() -> None:
    away = snapshot((SMALL, ASLEEP), (A, in_phase(Phase.STARTING)), line=(("1", "a", 999),), warm={"small": PRELOAD})
    assert actions(away) == []
    assert actions(snapshot((SMALL, ASLEEP), (A, ready(1)), warm={"small": PRELOAD})) == [Start("small", "preload")]


def test_spare_does_not_lengthen_the_patience_with_those_who_are_served() -> None:
    """Their gate closes when it would close without it."""
    policy = Policy(minimum_service=0.0)
    busy = ready(1, last_used=990.0, load_seconds=10.0, unload_seconds=1.0, callers={"c": CallerState(None, 1)})
    waits = in_phase(Phase.ASLEEP, load_seconds=10.0, unload_seconds=1.0)
    warm = dataclasses.replace(UNUSED, load_seconds=500.0, unload_seconds=1.0)
    line = (("1", "b", 780.0),)
    alone = decide(snapshot((A, busy), (B, waits), (TINY, ASLEEP), line=line, policy=policy))
    beside = decide(snapshot((A, busy), (B, waits), (TINY, warm), line=line, policy=policy, warm={"tiny": PRELOAD}))
    assert alone.actions == beside.actions == (CloseGate("a", "making room for b"),)


# --- admins and failures


def test_admin_s_sleep_holds() -> None:
    assert actions(snapshot((A, UNUSED), warm={"a": PRELOAD})) == []
    asked = dataclasses.replace(UNUSED, sleep="drain")
    assert actions(snapshot((A, asked), warm={"a": PRELOAD})) == [Stop("a", "asked to sleep")]
    slept = in_phase(Phase.ASLEEP, sleep="drain")
    assert actions(snapshot((A, slept), warm={"a": SCHEDULE})) == []
    assert actions(snapshot((A, slept), line=(("1", "a", 999),), warm={"a": SCHEDULE})) == [Start("a")]


def test_pinned_spare_is_not_the_first_to_leave() -> None:
    pinned = dataclasses.replace(UNUSED, pinned=True)
    found = actions(snapshot((spec("p", 5), pinned), (spec("x", 5), ready()), (spec("b", 5), ASLEEP),
                             line=(("1", "b", 999),), warm={"p": PRELOAD}))  # fmt: skip
    assert found == [Stop("x", "making room for b")]


def test_failed_warm_model_is_tried_again_at_its_time() -> None:
    failed = in_phase(Phase.FAILED, retry_at=1010)
    decision = decide(snapshot((A, failed), warm={"a": PRELOAD}))
    assert decision.actions == ()
    assert decision.look_again_at == 1010
    assert actions(snapshot((A, failed), warm={"a": PRELOAD}, now=1010)) == [Start("a", "preload")]


def test_model_larger_than_its_gpu_is_left_alone() -> None:
    assert actions(snapshot((spec("huge", 11), ASLEEP), (B, LEFT), warm={"huge": SCHEDULE})) == []


def test_busy_warm_model_closes_its_gate_for_who_waits_as_any_other() -> None:
    found = actions(snapshot((A, ready(1)), (B, ASLEEP), line=(("1", "b", 999),), warm={"a": PRELOAD}))
    assert found == [CloseGate("a", "making room for b")]
