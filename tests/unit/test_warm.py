"""Which models should be warm: schedules, the default model and preloads, on the snapshot's clock."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from fleet import ASLEEP, in_phase, ready, snapshot, spec
from hypothesis import given
from hypothesis import strategies as st

from router.scheduling.warm import Strength, Warm, Wish, warm
from router.settings import GpuSettings, LifecycleSettings, Role
from router.store.state import ModelState, Phase

A, B, C = spec("a"), spec("b"), spec("c")
UTILITY = spec("utility", 1, Role.UTILITY)
MORNING = {"model": "a", "cron": "0 7 * * *", "for": "2h", "timezone": "Europe/Vienna"}


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def settings(**fields: Any) -> LifecycleSettings:
    return LifecycleSettings.model_validate({"gpus": {"0": GpuSettings(memory=10)}, **fields})


def found(chosen: LifecycleSettings, now: float | str, line: Any = (), **states: ModelState) -> Warm:
    specs = [*(each for each in (A, B, C)), UTILITY]
    moment = at(now) if isinstance(now, str) else now
    shot = snapshot(*((each, states.get(each.name, ASLEEP)) for each in specs), line=line, now=moment)
    return warm(chosen, shot.specs, shot.state)


def reasons(made: Warm) -> dict[str, str]:
    return {name: wish.reason for name, wish in made.wishes.items()}


def test_nothing_set_is_nothing_warm() -> None:
    assert found(settings(), 1000.0) == Warm({}, None)


def test_preloads_are_always_wanted_in_their_order() -> None:
    made = found(settings(preload=["b", "a"]), 1000.0)
    assert list(made.wishes.items()) == [(name, Wish("preload", Strength.ROOM)) for name in ("b", "a")]
    assert made.changes_at is None


# --- schedules


@pytest.mark.parametrize(
    ("now", "until", "changes_at"),
    [
        ("2026-05-04T06:59:59+02:00", None, "2026-05-04T07:00:00+02:00"),
        ("2026-05-04T07:00:00+02:00", "2026-05-04T09:00:00+02:00", "2026-05-04T09:00:00+02:00"),
        ("2026-05-04T08:59:59+02:00", "2026-05-04T09:00:00+02:00", "2026-05-04T09:00:00+02:00"),
        ("2026-05-04T09:00:00+02:00", None, "2026-05-05T07:00:00+02:00"),
        ("2026-03-28T12:00:00+01:00", None, "2026-03-29T07:00:00+02:00"),
        ("2026-10-24T12:00:00+02:00", None, "2026-10-25T07:00:00+01:00"),
    ],
)
def test_schedule_begins_and_ends_and_says_when(now: str, until: str | None, changes_at: str) -> None:
    made = found(settings(schedules=[MORNING]), now)
    wish = made.wishes.get("a")
    assert (wish and wish.until) == (None if until is None else at(until))
    assert made.changes_at == at(changes_at)
    if wish:
        assert (wish.reason, wish.strength, wish.since) == ("schedule", Strength.CLEAR, at(until or "") - 7200)


def test_time_that_is_kept_warm_is_real_time_when_the_clocks_change() -> None:
    night = MORNING | {"cron": "0 1 * * *", "for": "4h"}
    made = found(settings(schedules=[night]), "2026-03-29T01:30:00+01:00")
    assert made.wishes["a"].until == at("2026-03-29T06:00:00+02:00")


def test_overlapping_schedules_of_one_model_are_one_time() -> None:
    later = MORNING | {"cron": "30 8 * * *", "for": "4h"}
    made = found(settings(schedules=[MORNING, later]), "2026-05-04T08:45:00+02:00")
    wish = made.wishes["a"]
    assert wish.until == at("2026-05-04T12:30:00+02:00")
    assert wish.since == at("2026-05-04T08:30:00+02:00")
    assert made.changes_at == at("2026-05-04T09:00:00+02:00"), "looking once too often does no harm"


def test_schedule_that_is_longer_than_its_interval_never_ends() -> None:
    always = MORNING | {"for": "30h"}
    for hour in range(24):
        made = found(settings(schedules=[always]), f"2026-05-04T{hour:02d}:10:00+02:00")
        assert "a" in made.wishes


def test_schedules_come_first_in_their_order_then_the_default_then_preloads() -> None:
    second = MORNING | {"model": "b"}
    chosen = settings(schedules=[second, MORNING], preload=["c", "a"], default_model="c", default_after="1h")
    made = found(chosen, "2026-05-04T07:30:00+02:00")
    assert reasons(made) == {"b": "schedule", "a": "schedule", "c": "default"}
    assert list(made.wishes) == ["b", "a", "c"]
    assert made.wishes["a"].until is None, "as a preload it is warm afterwards too"
    assert made.wishes["b"].until == at("2026-05-04T09:00:00+02:00")


# --- the default model

IDLE = settings(default_model="a", default_after="10m")


def test_default_returns_when_nothing_was_asked_for_long_enough() -> None:
    b = ready(last_used=5000.0)
    made = found(IDLE, 5599.0, b=b)
    assert made == Warm({"a": Wish("default", Strength.STAY)}, 5600.0)
    assert found(IDLE, 5600.0, b=b) == Warm({"a": Wish("default", Strength.CLEAR, since=5600.0)}, None)


def test_default_is_wanted_at_once_on_a_box_that_was_never_used() -> None:
    assert found(IDLE, 5000.0).wishes["a"].strength is Strength.CLEAR


@pytest.mark.parametrize(
    ("line", "b"),
    [
        ((("1", "b", 100.0),), ASLEEP),
        ((), ready(1, last_used=0.0)),
        ((), in_phase(Phase.STARTING, wanted=3.0)),
        ((), in_phase(Phase.ASLEEP, last_used=4900.0)),
    ],
    ids=["waiting", "in flight", "woken", "just now"],
)
def test_default_does_not_return_while_something_is_asked_for(line: Any, b: ModelState) -> None:
    assert found(IDLE, 5000.0, line, b=b).wishes["a"].strength is Strength.STAY


def test_what_loads_by_itself_has_not_been_asked_for_by_that() -> None:
    loaded = ModelState(Phase.READY, ready_at=4990.0, last_used=4990.0)
    chosen = settings(default_model="a", default_after="10m", preload=["b"])
    assert found(chosen, 5000.0, b=loaded, utility=loaded).wishes["a"].strength is Strength.CLEAR
    assert found(chosen, 5000.0, c=loaded).wishes["a"].strength is Strength.STAY, "somebody had c loaded"
    used = ModelState(Phase.READY, ready_at=4990.0, last_used=4995.0)
    assert found(chosen, 5000.0, b=used).wishes["a"].strength is Strength.STAY


def test_default_that_is_preloaded_too_is_kept_loaded_before_its_time() -> None:
    chosen = settings(default_model="a", default_after="10m", preload=["a"])
    assert found(chosen, 5000.0, b=ready(1)).wishes == {"a": Wish("preload", Strength.ROOM)}
    assert found(chosen, 5000.0).wishes["a"].reason == "default"


# --- always


schedules = st.lists(
    st.fixed_dictionaries(
        {
            "model": st.sampled_from(["a", "b", "c"]),
            "cron": st.sampled_from(["*/20 * * * *", "0 7 * * *", "30 2 * * *", "0 */3 * * *", "0 9 * * mon"]),
            "for": st.sampled_from([90, 1200, 7200, 90_000]),
            "timezone": st.sampled_from(["UTC", "Europe/Vienna", "America/New_York"]),
        }
    ),
    max_size=3,
)
moments = st.integers(int(at("2026-03-27T00:00:00Z")), int(at("2026-03-31T00:00:00Z"))).map(float)


@given(schedules, moments, st.floats(0.0, 1.0), st.sampled_from([None, "a"]), st.integers(0, 3000))
def test_nothing_changes_before_the_time_that_is_told(
    planned: list[dict[str, Any]], now: float, share: float, default: str | None, ago: int
) -> None:
    chosen = settings(schedules=planned, default_model=default, default_after="20m", preload=["c"])
    states = {"b": ready(last_used=now - ago)}
    made = found(chosen, now, **states)
    if made.changes_at is None:
        assert not planned
        later = now + 86_400 * share
    else:
        assert made.changes_at > now
        later = now + (made.changes_at - now - 0.001) * share
        assert found(chosen, made.changes_at, **states).changes_at != made.changes_at
    assert found(chosen, later, **states) == made
