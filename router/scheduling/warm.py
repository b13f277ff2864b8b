"""Which models should be warm now although nobody asks for them, how much so, and when that changes next.

Three things say so: a schedule whose time has come, the default model once the box has been left alone, and the list of
models to preload. A pure function of the settings and of one state, on the state's own clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from router.config import ModelSpec
from router.schedule import fires
from router.settings import LifecycleSettings, Role
from router.store.state import FleetState, ModelState, Phase

PRELOAD = "preload"
DEFAULT = "default"
SCHEDULE = "schedule"


class Strength(IntEnum):
    """What is done for a model that should be warm; each does what those before it do."""

    STAY = 1  # when it runs, it is not stopped for idleness
    ROOM = 2  # it is loaded into memory that is free
    CLEAR = 3  # idle models leave for it


@dataclass(frozen=True, slots=True)
class Wish:
    """Why and how much a model should be warm. until: when that is over by itself, None: never. since: with CLEAR, who
    has been asked for later than this does not leave for it. Both are seconds on the state's clock."""

    reason: str
    strength: Strength
    until: float | None = None
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Warm:
    """All wishes by model, the most important first. changes_at: until then they stay the same, if nothing happens."""

    wishes: Mapping[str, Wish] = field(default_factory=dict)
    changes_at: float | None = None


NOBODY = Warm()


def warm(settings: LifecycleSettings, specs: Mapping[str, ModelSpec], state: FleetState) -> Warm:
    """The wishes in this state: schedules in their order, then the default model, then preloads in theirs."""
    wishes, times = _scheduled(settings, state.now)
    standing = {name: Wish(PRELOAD, Strength.ROOM) for name in settings.preload}
    if (default := settings.default_model) is not None:
        left_alone = _left_alone_since(settings, specs, state)
        due = (state.now if left_alone is None else left_alone) + settings.default_after
        if due <= state.now:
            wishes.setdefault(default, Wish(DEFAULT, Strength.CLEAR, since=due))
        else:
            standing.setdefault(default, Wish(DEFAULT, Strength.STAY))
            times.append(due)
    rest = {name: wish for name, wish in standing.items() if name not in wishes}
    return Warm(wishes | rest, min(times, default=None))


def unused(model: ModelState) -> bool:
    """Whether nobody has asked for a running model since it was loaded."""
    if model.in_flight or model.wanted is not None:
        return False
    return model.phase is Phase.STARTING or (model.phase is Phase.READY and model.last_used <= model.ready_at)


def _scheduled(settings: LifecycleSettings, now: float) -> tuple[dict[str, Wish], list[float]]:
    """The models whose time has come, and the times at which a schedule begins or ends."""
    wishes: dict[str, Wish] = {}
    times: list[float] = []
    for schedule in settings.schedules:
        name = schedule.model
        began, following = fires(schedule.cron, schedule.timezone, now)
        times.append(following)
        until = began + schedule.duration
        if now < until:
            times.append(until)
            if name in wishes:
                began, until = max(began, wishes[name].since), max(until, wishes[name].until or 0.0)
            endless = name in settings.preload or name == settings.default_model
            wishes[name] = Wish(SCHEDULE, Strength.CLEAR, None if endless else until, began)
    return wishes, times


def _left_alone_since(settings: LifecycleSettings, specs: Mapping[str, ModelSpec], state: FleetState) -> float | None:
    """When anything was asked for last; None: something is now. What loads by itself has not been asked for by that."""
    if state.line or any(model.in_flight or model.wanted is not None for model in state.models.values()):
        return None
    warmed = {*settings.preload, settings.default_model, *(schedule.model for schedule in settings.schedules)}
    return max(
        (
            model.last_used
            for name, model in state.models.items()
            if not (unused(model) and (name in warmed or specs[name].role is Role.UTILITY))
        ),
        default=0.0,
    )
