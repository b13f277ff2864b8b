"""What warm wishes may cost those who wait: in every state, the one unload that it takes to be rid of a spare."""

from __future__ import annotations

import dataclasses
from typing import Any

from fleet import fit_together, spec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.scheduler import STRICT, Action, OpenGate, Policy, Snapshot, Start, Stop, Warm, Wish, decide
from router.scheduling.decision import HOLDING
from router.scheduling.fit import fits
from router.scheduling.gaps import HORIZON
from router.scheduling.warm import Strength
from router.settings import Role
from router.store.state import CallerState, FleetState, ModelState, Phase, Waiting

NOW = 10_000.0
ROOM = {"0": 10, "1": 10}
AGES = (0.0, 1.0, 60.0, HORIZON, 300.0, 5000.0)


RARE = st.sampled_from([False] * 9 + [True])
PHASES = [Phase.READY] * 5 + [Phase.ASLEEP] * 5 + [Phase.STARTING] * 2 + [Phase.DRAINING, Phase.STOPPING, Phase.FAILED]


@st.composite
def states(draw: st.DrawFn) -> ModelState:
    phase = draw(st.sampled_from(PHASES))
    used = NOW - draw(st.sampled_from(AGES))
    return ModelState(
        phase=phase,
        since=NOW - 6000.0,
        ready_at=used if draw(st.booleans()) else NOW - 6000.0,
        in_flight=draw(st.sampled_from([0, 0, 0, 1])) if phase in (Phase.READY, Phase.DRAINING) else 0,
        last_used=used,
        pinned=draw(RARE),
        wanted=NOW - 20.0 if phase is not Phase.READY and draw(RARE) else None,
        sleep="drain" if draw(RARE) else "",
        retry_at=NOW + draw(st.sampled_from([-1.0, 1.0])),
        load_seconds=draw(st.sampled_from([None, 10.0, 280.0])),
        unload_seconds=draw(st.sampled_from([None, 1.0, 20.0])),
        callers={"c": CallerState(NOW - 3.0)} if draw(RARE) else {},
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """A state that the memory allows, with any wishes."""
    names = [f"m{index}" for index in range(draw(st.integers(3, 6)))]
    gpus = st.sampled_from([("0",)] * 6 + [("1",), ("0", "1")])
    roles = st.sampled_from([Role.NORMAL] * 8 + [Role.UTILITY, Role.EXCLUSIVE])
    idle = st.sampled_from([0.0, 250.0, 4000.0])
    specs = {
        name: spec(name, draw(st.sampled_from([2, 3, 4, 5, 6])), draw(roles), gpus=draw(gpus), idle_timeout=draw(idle))
        for name in names
    }
    models = {name: draw(states()) for name in names}
    asked = [draw(st.sampled_from(names)) for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 1, 2])))]
    line = tuple(
        Waiting(f"r{index}", name, NOW - 500.0 + draw(st.sampled_from([0.0, 495.0])) + index, "c")
        for index, name in enumerate(asked)
    )
    wished = draw(st.permutations(names))[: draw(st.sampled_from([1, 2, 3, 6]))]
    strengths = st.sampled_from([Strength.CLEAR, Strength.CLEAR, Strength.ROOM, Strength.STAY])
    since = st.sampled_from([NOW, NOW, NOW - 200.0, 0.0])
    wishes = {name: Wish("test", draw(strengths), None, draw(since)) for name in wished}
    policy = draw(st.sampled_from([STRICT, Policy(), Policy(minimum_service=0.0, patience=100.0)]))
    found = Snapshot(specs, ROOM, FleetState(NOW, models, tuple(sorted(line, key=lambda each: each.joined))), policy)
    held: set[str] = set()
    for name, model in models.items():
        if model.phase in HOLDING and not fits(found, specs[name], held):
            models[name] = dataclasses.replace(model, phase=Phase.ASLEEP, in_flight=0)
        elif model.phase in HOLDING:
            held.add(name)
    return dataclasses.replace(found, warm=Warm(wishes))


def without_wishes(found: Snapshot) -> Snapshot:
    """The state as it would be had there never been a wish: what runs for one alone sleeps."""
    spares = found.spares()
    models = {name: ModelState() if name in spares else model for name, model in found.state.models.items()}
    return dataclasses.replace(found, state=dataclasses.replace(found.state, models=models), warm=Warm())


def asked_for(found: Snapshot) -> set[str]:
    return {name for name, model in found.state.models.items() if model.wanted is not None} | {*found.waiting()}


def starts(actions: tuple[Action, ...]) -> set[str]:
    return {each.model for each in actions if isinstance(each, Start)}


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(snapshots())
def test_those_who_wait_lose_one_unload_at_most(found: Snapshot) -> None:
    """Whoever would start now if there had never been a wish does so now, or when spares that leave now have left."""
    spares, asked, models = found.spares(), asked_for(found), found.state.models
    actions = decide(found).actions
    due = starts(decide(without_wishes(found)).actions) & asked
    begun = starts(actions)
    assert begun & asked <= due
    holding = {name for name, model in models.items() if model.phase in HOLDING}
    assert fit_together([found.specs[name] for name in holding | begun], ROOM)
    if due <= begun:
        return
    leaving = {each.model for each in actions if isinstance(each, Stop)} & spares
    after = holding - leaving | due | begun
    assert fit_together([found.specs[name] for name in after], ROOM), (
        f"{due - begun} cannot start when {leaving} have left"
    )


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(snapshots())
def test_all_else_is_as_without_wishes_and_who_leaves_for_one_is_used_by_nobody(found: Snapshot) -> None:
    """Grants, gates and stops of those who run for somebody are the same; a wish adds stops of idle models only."""
    wishes, spares, models = found.warm.wishes, found.spares(), found.state.models
    plain = [each for each in decide(without_wishes(found)).actions if not isinstance(each, Start)]
    idle = {each.model for each in plain if isinstance(each, Stop) and each.reason == "idle"}
    done = [each for each in decide(found).actions if not isinstance(each, Start) and each.model not in spares]
    missing = [each for each in plain if each not in done]
    assert {each.model for each in missing} <= idle
    for action in done:
        if action in plain or (isinstance(action, OpenGate) and action.model in idle & set(wishes)):
            continue
        check_clearing(found, action, models[action.model])
    gone = {each.model for each in done if isinstance(each, Stop)}
    assert idle <= gone | set(wishes), "only a wish keeps a model from being stopped for idleness"


def check_clearing(found: Snapshot, action: Action, model: ModelState) -> None:
    """One that leaves for a wish: nobody uses it or may be about to, and nobody waits for a load where the wish is."""
    assert isinstance(action, Stop)
    whom = action.reason.removeprefix("making room for ").removesuffix(" (test)")
    names, wish = list(found.warm.wishes), found.warm.wishes[whom]
    assert wish.strength is Strength.CLEAR
    assert (model.phase, model.in_flight, model.pinned, action.force) == (Phase.READY, 0, False, False)
    assert action.model not in found.waiting()
    assert action.model not in names[: names.index(whom)], "it is more important"
    unused_utility = found.specs[action.model].role is Role.UTILITY and model.last_used <= model.ready_at
    assert unused_utility or model.last_used <= min(wish.since, NOW - HORIZON)
    for name in asked_for(found) - {action.model}:
        state = found.state.models[name]
        cools = state.phase is Phase.FAILED and state.retry_at > NOW
        never = any(found.specs[name].memory > ROOM[gpu] for gpu in found.specs[name].gpus)
        apart = set(found.specs[name].gpus).isdisjoint(found.specs[whom].gpus)
        assert state.phase is Phase.READY or cools or never or apart, f"{name} waits there"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(snapshots(), st.floats(0.0, 0.999))
def test_nothing_is_due_before_the_time_that_is_told(found: Snapshot, share: float) -> None:
    """With nothing to do now, nothing is to be done until then."""
    decision = decide(found)
    if decision.actions:
        return
    until = NOW + 10_000.0 if decision.look_again_at is None else decision.look_again_at
    later = dataclasses.replace(found.state, now=NOW + (until - NOW) * share)
    assert decide(dataclasses.replace(found, state=later)).actions == ()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(snapshots())
def test_wishes_come_to_rest(found: Snapshot) -> None:
    """No war: with nobody asking, a model makes way once at most, for one that had to wait for its own room."""
    quiet = dataclasses.replace(found.state, line=())
    models = {name: dataclasses.replace(model, wanted=None, in_flight=0) for name, model in quiet.models.items()}
    started: list[str] = []
    now = NOW
    for _ in range(40):
        shot = dataclasses.replace(found, state=dataclasses.replace(quiet, models=dict(models), now=now))
        decision = decide(shot)
        for action in decision.actions:
            model = models[action.model]
            changes: dict[str, Any] = {"since": now}
            if isinstance(action, Start):
                started.append(action.model)
                assert started.count(action.model) <= 2
                changes |= {"phase": Phase.STARTING, "sleep": ""}
            elif isinstance(action, Stop):
                changes |= {"phase": Phase.STOPPING}
            else:
                changes |= {"phase": Phase.READY}
            models[action.model] = dataclasses.replace(model, **changes)
        if not decision.actions:
            moving = {name: model for name, model in models.items() if model.phase in (Phase.STARTING, Phase.STOPPING)}
            for name, model in moving.items():
                done = Phase.READY if model.phase is Phase.STARTING else Phase.ASLEEP
                used = now if done is Phase.READY else model.last_used
                models[name] = dataclasses.replace(model, phase=done, since=now, last_used=used, ready_at=used)
            if not moving:
                if decision.look_again_at is None:
                    return
                now = decision.look_again_at
        now += 0.5
    raise AssertionError("it does not come to rest")
