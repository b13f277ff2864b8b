"""What should happen now: a pure function of one snapshot. No clock, no I/O, no randomness.

The rules, in the order in which they win:

1. A ready model whose gate is open serves everyone who asks for it.
2. Models that are waited for run side by side while they fit. For the one whose turn it is (scheduling.turns) the
   cheapest set of others makes room (scheduling.fit); younger ones start only in memory that it does not need.
3. A model makes room when its callers have gone, or are not worth waiting for (hold), at the latest when somebody who
   waits would otherwise be late; but it serves for a minimum time first (scheduling.gate). Then its gate closes, what
   runs is finished, and it stops.
4. An exclusive model is alone on its GPUs. A utility model is the last to give way, and comes back by itself.
5. A model that nobody has used for its idle timeout stops, unless it is pinned or a utility.

Nobody waits longer than scheduling.bound says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from router.config import ModelSpec, Role
from router.scheduling.decision import (
    HOLDING,
    Action,
    CloseGate,
    Decision,
    Grant,
    OpenGate,
    Refuse,
    Snapshot,
    Start,
    Stop,
)
from router.scheduling.fit import fits, fits_now, victims
from router.scheduling.forecast import forecast
from router.scheduling.gate import stay
from router.scheduling.policy import STRICT, Policy
from router.scheduling.turns import Claim, claims, ranked
from router.store.state import ModelState, Phase, Waiting

__all__ = [
    "LIVE",
    "STRICT",
    "Action",
    "CloseGate",
    "Decision",
    "Grant",
    "OpenGate",
    "Policy",
    "Refuse",
    "Snapshot",
    "Start",
    "Stop",
    "decide",
    "fits_now",
    "forecast",
]

#: What the controller runs. Holding and the gate's deadline need pauses learned for each caller, which the store does
#: not keep yet; without them the oldest request's model is next, and what runs is finished first.
LIVE = STRICT

_NOBODY: tuple[Waiting, ...] = ()


def decide(snapshot: Snapshot) -> Decision:
    """The actions that the rules ask for in this state; none when all is as it should be."""
    plan = _make_room(snapshot)
    actions: list[Action] = [*plan.refusals]
    times: list[float] = [*plan.times]
    for name, model in snapshot.state.models.items():
        spec = snapshot.specs[name]
        waiting = plan.waiting.get(name, _NOBODY)
        if model.phase in (Phase.READY, Phase.DRAINING):
            chosen, look_again_at = _serve(spec, model, waiting, plan.leaving.get(name), snapshot.state.now)
            actions += chosen
            if look_again_at is not None:
                times.append(look_again_at)
        elif model.phase is Phase.STARTING and name in plan.leaving:
            force = model.sleep == "force"
            if force or not model.in_flight:  # an adopted engine may have work: it is drained as soon as it is ready
                actions.append(Stop(name, plan.leaving[name], force))
    actions += plan.starts
    return Decision(tuple(actions), min((at for at in times if snapshot.state.now < at < float("inf")), default=None))


@dataclass(slots=True)
class _Plan:
    waiting: Mapping[str, Collection[Waiting]]
    leaving: dict[str, str]
    starts: list[Start] = field(default_factory=list)
    refusals: list[Refuse] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


def _make_room(snapshot: Snapshot) -> _Plan:
    """Who starts now, and who has to leave for whom."""
    specs, state = snapshot.specs, snapshot.state
    waiting = snapshot.waiting()
    plan = _Plan(waiting, {name: "asked to sleep" for name, model in state.models.items() if model.sleep})
    _refuse_what_never_fits(snapshot, waiting, plan)
    rivals = claims(snapshot, waiting)
    order, holds_until = ranked(snapshot, rivals)
    plan.times.append(holds_until)
    holding = {name for name, model in state.models.items() if model.phase in HOLDING}
    # who will be there once all that is decided has happened
    future = {name for name in holding if state.models[name].phase is not Phase.STOPPING and name not in plan.leaving}
    blocked: set[str] = set()  # GPUs on which somebody whose turn it is still waits for room
    for name in [*order, *_absent_utilities(snapshot, order)]:
        spec = specs[name]
        stopping = state.models[name].phase is Phase.STOPPING
        if not stopping and fits(snapshot, spec, holding) and fits(snapshot, spec, future):
            plan.starts.append(Start(name))
            holding.add(name)
            future.add(name)
        elif name in order and not blocked >= set(spec.gpus):
            if blocked.isdisjoint(spec.gpus):
                leaving = victims(snapshot, spec, future, waiting)
                if _all_leave(snapshot, leaving, rivals, plan):
                    plan.leaving.update(dict.fromkeys(leaving, f"making room for {name}"))
                future.difference_update(leaving)
            blocked |= set(spec.gpus)  # one that waits on one of its GPUs only keeps its room on the others
            future.add(name)
    return plan


def _all_leave(snapshot: Snapshot, leaving: Collection[str], rivals: list[Claim], plan: _Plan) -> bool:
    """Whether nobody in a set of victims stays for its callers; else the plan notes when to look again."""
    stays = [stay(snapshot, name, rivals, tuple(plan.waiting.get(name, _NOBODY))).until for name in leaving]
    later = [until for until in stays if until > snapshot.state.now]
    plan.times += later
    return not later


def _refuse_what_never_fits(snapshot: Snapshot, waiting: Mapping[str, Collection[Waiting]], plan: _Plan) -> None:
    for name, model in snapshot.state.models.items():
        spec = snapshot.specs[name]
        if any(spec.memory > snapshot.room[gpu] for gpu in spec.gpus):
            if name in waiting and model.phase in (Phase.ASLEEP, Phase.FAILED, Phase.STOPPING):
                plan.refusals.append(Refuse(name, tuple(request.id for request in waiting[name])))
        elif (
            model.phase is Phase.FAILED
            and model.retry_at > snapshot.state.now
            and (name in waiting or model.wanted is not None or spec.role is Role.UTILITY)
        ):
            plan.times.append(model.retry_at)


def _absent_utilities(snapshot: Snapshot, order: Collection[str]) -> list[str]:
    """Utility models that do not run and come back when there is room."""
    return sorted(
        name
        for name, model in snapshot.state.models.items()
        if snapshot.specs[name].role is Role.UTILITY
        and name not in order
        and not model.sleep
        and (model.phase is Phase.ASLEEP or (model.phase is Phase.FAILED and model.retry_at <= snapshot.state.now))
    )


def _serve(
    spec: ModelSpec, model: ModelState, waiting: Collection[Waiting], leaving: str | None, now: float
) -> tuple[list[Action], float | None]:
    """What a running model does (serve those who wait, finish and leave, stop for idleness), and when to look again."""
    name = spec.name
    actions: list[Action] = []
    if leaving is not None and model.phase is Phase.DRAINING:
        deadline = model.since + spec.drain_timeout
        if model.in_flight == 0:
            return [Stop(name, leaving)], None
        if model.sleep == "force" or now >= deadline:
            return [Stop(name, leaving, force=True)], None
        return [], deadline
    if model.phase is Phase.DRAINING:
        actions.append(OpenGate(name))
    if waiting:
        actions.append(Grant(name, tuple(request.id for request in waiting)))
    if leaving is not None:
        if model.sleep == "force":
            return [Stop(name, leaving, force=True)], None
        busy = model.in_flight > 0 or bool(waiting)
        return [*actions, CloseGate(name, leaving) if busy else Stop(name, leaving)], None
    if model.pinned or spec.role is Role.UTILITY or spec.idle_timeout == 0:
        return actions, None
    if model.in_flight or waiting:
        return actions, now + spec.idle_timeout  # the earliest at which it can have been idle for that long
    deadline = model.last_used + spec.idle_timeout
    return ([Stop(name, "idle")], None) if now >= deadline else (actions, deadline)
