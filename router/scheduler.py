"""What should happen now: a pure function of one snapshot. No clock, no I/O, no randomness.

The rules, in the order in which they win:

1. A ready model whose gate is open serves everyone who asks for it.
2. Models that are waited for run side by side while they fit. For the one whose turn it is (scheduling.turns) the
   cheapest set of others makes room (scheduling.fit); younger ones start only in memory that it does not need.
3. A model makes room when its callers have gone, or are not worth waiting for (hold), at the latest when somebody who
   waits would otherwise be late; but it serves for a minimum time first (scheduling.gate). Then its gate closes, what
   runs is finished, and it stops.
4. An exclusive model is alone on its GPUs. A utility model is the last to give way, and comes back by itself.
5. A model that nobody has used for its idle timeout stops, unless it is pinned, a utility, or to be kept warm.
6. Models that should be warm (scheduling.warm) come back where nobody waits for a load. Those who wait are served as if
   the models that run for that alone were not there, but for the one unload that it takes to be rid of them.

Nobody waits longer than scheduling.bound says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from router.config import ModelSpec
from router.scheduling import costs, reasons
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
from router.scheduling.fairness import NO_TURNS, deal
from router.scheduling.fit import fits, fits_now, victims
from router.scheduling.forecast import Outlook, outlook
from router.scheduling.gaps import HORIZON
from router.scheduling.gate import stay
from router.scheduling.policy import STRICT, Policy
from router.scheduling.turns import Claim, claims, ranked
from router.scheduling.warm import Strength, Warm, Wish, unused, warm
from router.settings import Role
from router.store.state import ModelState, Phase, Waiting

__all__ = [
    "STRICT",
    "Action",
    "CloseGate",
    "Decision",
    "Grant",
    "OpenGate",
    "Outlook",
    "Policy",
    "Refuse",
    "Snapshot",
    "Start",
    "Stop",
    "Warm",
    "Wish",
    "decide",
    "fits_now",
    "outlook",
    "warm",
]

_NOBODY: tuple[Waiting, ...] = ()


def decide(snapshot: Snapshot) -> Decision:
    """The actions that the rules ask for in this state; none when all is as it should be."""
    plan = _make_room(snapshot)
    actions: list[Action] = [*plan.refusals]
    times: list[float] = [*plan.times, snapshot.warm.changes_at or 0.0]
    for name, model in snapshot.state.models.items():
        spec = snapshot.specs[name]
        waiting = plan.waiting.get(name, _NOBODY)
        if model.phase in (Phase.READY, Phase.DRAINING):
            grant, keep = _grant(snapshot, name, waiting), name in snapshot.warm.wishes
            chosen, look_again_at = _serve(spec, model, grant, plan.leaving.get(name), keep, snapshot.state.now)
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
    """What is decided so far. waiting: the line by model. leaving: by model, the reason why it leaves.

    holding: the models that have memory now, or get it by this decision. future: those that will have it once all that
    is decided has happened. A spare is in neither until it is known that it stays.
    late: those that have waited for so long that nobody younger may keep them waiting. behind: those that get memory
    while one of the late ones waits; what they take must not be what it needs."""

    waiting: Mapping[str, Sequence[Waiting]]
    leaving: dict[str, str]
    holding: set[str]
    future: set[str]
    starts: list[Start] = field(default_factory=list)
    refusals: list[Refuse] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    behind: set[str] = field(default_factory=set)

    def add(self, name: str) -> None:
        self.holding.add(name)
        self.future.add(name)
        if self.late:
            self.behind.add(name)


def _make_room(snapshot: Snapshot) -> _Plan:
    """Who starts now, and who has to leave for whom."""
    state = snapshot.state
    waiting, spares = snapshot.waiting(), snapshot.spares()
    leaving = {name: reasons.ASKED for name, model in state.models.items() if model.sleep}
    holding = {name for name, model in state.models.items() if model.phase in HOLDING and name not in spares}
    future = {name for name in holding if state.models[name].phase is not Phase.STOPPING and name not in leaving}
    plan = _Plan(waiting, leaving, holding, future)
    _refuse_what_never_fits(snapshot, waiting, plan)
    order = _for_those_who_wait(snapshot, plan, spares)
    _for_warm_wishes(snapshot, plan, spares, order)
    return plan


def _for_those_who_wait(snapshot: Snapshot, plan: _Plan, spares: Collection[str]) -> list[str]:
    """Starts for models that are waited for, and who leaves for them. Returns their order. As if there were no spares:
    but for the wait until those in the way have left, nothing depends on them."""
    rivals = claims(snapshot, plan.waiting)
    order, until, late = ranked(snapshot, rivals)
    plan.times.append(until)
    blocked: set[str] = set()  # GPUs on which somebody whose turn it is still waits for room
    for name in order:
        spec = snapshot.specs[name]
        stopping = snapshot.state.models[name].phase is Phase.STOPPING
        hinders = _in_the_way(snapshot, name, plan)
        if not (stopping or hinders) and fits(snapshot, spec, plan.holding) and fits(snapshot, spec, plan.future):
            if fits(snapshot, spec, plan.holding.union(spares)):
                plan.starts.append(Start(name))
            plan.add(name)
        elif not (hinders or blocked >= set(spec.gpus)):
            if blocked.isdisjoint(spec.gpus):
                leaving = victims(snapshot, spec, plan.future, plan.waiting)
                if _all_leave(snapshot, leaving, rivals, plan):
                    plan.leaving.update(dict.fromkeys(leaving, reasons.making_room(name)))
                plan.future.difference_update(leaving)
            blocked |= set(spec.gpus)  # one that waits on one of its GPUs only keeps its room on the others
            plan.future.add(name)
        elif name in late:
            plan.late.append(name)
    return order


def _in_the_way(snapshot: Snapshot, name: str, plan: _Plan) -> bool:
    """Whether a model would get memory that somebody older and late could then not have."""
    return any(not fits(snapshot, snapshot.specs[late], plan.behind | {name}) for late in plan.late if late != name)


def _for_warm_wishes(snapshot: Snapshot, plan: _Plan, spares: Collection[str], order: Sequence[str]) -> None:
    """Which spares stay, and what comes back by itself: models for which others leave, utilities, other warm ones."""
    models, wishes = snapshot.state.models, snapshot.warm.wishes
    loading = [
        name
        for name, model in models.items()
        if model.phase in (Phase.STARTING, Phase.DRAINING) and (name in plan.waiting or model.wanted is not None)
    ]
    awaited = {gpu for name in [*order, *loading] for gpu in snapshot.specs[name].gpus}
    absent = [
        name for name in wishes if _may_come_back(snapshot, name) and awaited.isdisjoint(snapshot.specs[name].gpus)
    ]

    def start(name: str, reason: str = "") -> None:
        spec, here = snapshot.specs[name], plan.holding.union(spares)
        free = fits(snapshot, spec, here) and fits(snapshot, spec, plan.future)
        if name not in here and free and not _in_the_way(snapshot, name, plan):
            plan.starts.append(Start(name, reason))
            plan.add(name)

    newcomers = {name: reasons.making_room(name) for name in order}
    for name, wish in wishes.items():
        spec = snapshot.specs[name]
        if name in spares:
            if fits(snapshot, spec, plan.holding) and fits(snapshot, spec, plan.future):
                plan.add(name)
            else:
                whom = [each for each in newcomers if not set(snapshot.specs[each].gpus).isdisjoint(spec.gpus)]
                plan.leaving[name] = newcomers[whom[0]] if whom else reasons.ROOM_NEEDED
        elif name in absent and wish.strength is Strength.CLEAR and _clear(snapshot, name, wish, plan):
            newcomers[name] = reasons.making_room(name, wish.reason)
            start(name, wish.reason)
    utilities = [name for name, spec in snapshot.specs.items() if spec.role is Role.UTILITY and name not in order]
    for name in sorted(utilities):
        if _may_come_back(snapshot, name):
            start(name)
    for name in absent:
        if wishes[name].strength is Strength.ROOM:
            start(name, wishes[name].reason)


def _clear(snapshot: Snapshot, name: str, wish: Wish, plan: _Plan) -> bool:
    """Whether idle models leave so that `name` fits, or none has to. Nobody leaves who is more important, or has been
    asked for since the wish began, or may have callers in a pause."""
    spec, now = snapshot.specs[name], snapshot.state.now
    rank = {each: place for place, each in enumerate(snapshot.warm.wishes)}
    idle, later = [], []
    for each in plan.future:
        model = snapshot.state.models[each]
        if model.phase is not Phase.READY or model.in_flight or model.pinned or each in plan.waiting:
            continue
        used = 0.0 if snapshot.specs[each].role is Role.UTILITY and unused(model) else model.last_used
        if used > wish.since or rank.get(each, len(rank)) < rank[name]:
            continue
        if now < used + HORIZON:
            later.append(used + HORIZON)
        else:
            idle.append(each)
    leaving = victims(snapshot, spec, plan.future, plan.waiting, idle)
    if not leaving and not fits(snapshot, spec, plan.future):
        plan.times += later
        return False
    plan.leaving.update(dict.fromkeys(leaving, reasons.making_room(name, wish.reason)))
    plan.future.difference_update(leaving)
    plan.future.add(name)
    return True


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
            and (
                name in waiting or model.wanted is not None or spec.role is Role.UTILITY or name in snapshot.warm.wishes
            )
        ):
            plan.times.append(model.retry_at)


def _may_come_back(snapshot: Snapshot, name: str) -> bool:
    """Whether a model that does not run may be started by itself: not while it cools down or an admin lets it sleep."""
    model = snapshot.state.models[name]
    failed = model.phase is Phase.FAILED and model.retry_at <= snapshot.state.now
    return not model.sleep and (model.phase is Phase.ASLEEP or failed)


def _grant(snapshot: Snapshot, name: str, waiting: Sequence[Waiting]) -> Grant | None:
    """Who is served now: all who wait for this model, or, with a limit, those whose turn it is."""
    model, parallel = snapshot.state.models[name], snapshot.specs[name].parallel
    places = len(waiting) if parallel is None else parallel - model.in_flight
    if not waiting or places <= 0:
        return None
    lengths = {
        name: caller.service_seconds for name, caller in model.callers.items() if caller.service_seconds is not None
    }
    turns = snapshot.turns.get(name, NO_TURNS)
    chosen, turns = deal(waiting, places, lengths, costs.service(model), turns)
    return Grant(name, tuple(chosen), turns)


def _serve(
    spec: ModelSpec, model: ModelState, grant: Grant | None, leaving: str | None, keep: bool, now: float
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
    if grant:
        actions.append(grant)
    if leaving is not None:
        if model.sleep == "force":
            return [Stop(name, leaving, force=True)], None
        busy = model.in_flight > 0 or grant is not None
        return [*actions, CloseGate(name, leaving) if busy else Stop(name, leaving)], None
    if model.pinned or spec.role is Role.UTILITY or spec.idle_timeout == 0:
        return actions, None
    if model.in_flight or grant:
        return actions, now + spec.idle_timeout  # the earliest at which it can have been idle for that long
    deadline = model.last_used + spec.idle_timeout
    return ([Stop(name, reasons.IDLE)], None) if now >= deadline and not keep else (actions, deadline)
