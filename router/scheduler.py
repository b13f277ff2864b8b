"""What should happen now: a pure function of one snapshot. No clock, no I/O, no randomness.

The rules, in the order in which they win:

1. A ready model whose gate is open serves everyone who waits for it.
2. Whoever has waited longest is next. If their model does not fit beside what runs, the least recently used models
   that make room get their gates closed; what they run is finished, then they stop. Only the oldest request that needs
   room on a GPU gets room made; younger ones start only in memory that it does not need.
3. An exclusive model is alone on its GPUs. A utility model is the last to give way, and comes back by itself.
4. A model that nobody has used for its idle timeout stops, unless it is pinned or a utility.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from router.config import ModelSpec, Role
from router.store.state import FleetState, ModelState, Phase, Waiting

_HOLDING = frozenset({Phase.STARTING, Phase.READY, Phase.DRAINING, Phase.STOPPING})
#: Seconds assumed for an unload and a request before one has been measured.
ASSUMED_UNLOAD = 5.0
ASSUMED_SERVICE = 10.0


@dataclass(frozen=True, slots=True)
class Grant:
    """These waiting requests get leases on their ready model."""

    model: str
    requests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Start:
    model: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a model, or break off its start; without `force` only if it has no lease at that instant."""

    model: str
    reason: str
    force: bool = False


@dataclass(frozen=True, slots=True)
class CloseGate:
    """Newcomers join the line; what runs is finished."""

    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class OpenGate:
    model: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """These requests can never be served: their model is larger than its GPU."""

    model: str
    requests: tuple[str, ...]


Action = Grant | Start | Stop | CloseGate | OpenGate | Refuse


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a decision depends on. room: bytes that each GPU has for models. state.models has every spec's name."""

    specs: Mapping[str, ModelSpec]
    room: Mapping[str, int]
    state: FleetState


@dataclass(frozen=True, slots=True)
class Decision:
    """The actions, in order, and when to look again if nothing else happens (seconds on the snapshot's clock)."""

    actions: tuple[Action, ...]
    look_again_at: float | None


def decide(snapshot: Snapshot) -> Decision:
    """The actions that the rules ask for in this state; none when all is as it should be."""
    plan = _make_room(snapshot)
    actions: list[Action] = [*plan.refusals]
    times: list[float] = [*plan.times]
    for name, model in snapshot.state.models.items():
        spec = snapshot.specs[name]
        waiting = plan.waiting.get(name, ())
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
    return Decision(tuple(actions), min((at for at in times if at > snapshot.state.now), default=None))


def forecast(snapshot: Snapshot) -> dict[str, float | None]:
    """Seconds until each model is expected to answer a request that asks for it now: the swaps that are due before
    it, one after the other, and its own. Built on learned costs, so it is an estimate and not a bound; None as long
    as a load that it depends on has never been measured."""
    state, specs = snapshot.state, snapshot.specs
    waiting = _by_model(snapshot)
    holding = {name for name, model in state.models.items() if model.phase in _HOLDING}
    expected: dict[str, float | None] = {}
    queue: float | None = 0.0
    for name in dict.fromkeys([*_wanted(snapshot, waiting), *state.models]):
        model = state.models[name]
        load = model.load_seconds
        if model.phase is Phase.READY:
            expected[name] = 0.0
        elif load is None:
            expected[name] = None
        elif model.phase is Phase.STARTING:
            expected[name] = max(load - (state.now - model.since), load * 0.05)
        elif _fits(snapshot, specs[name], holding):
            expected[name] = load
        else:
            others = [state.models[other] for other in holding if set(specs[other].gpus) & set(specs[name].gpus)]
            drain = max((other.service_seconds or ASSUMED_SERVICE for other in others if other.in_flight), default=0.0)
            unload = max((other.unload_seconds or ASSUMED_UNLOAD for other in others), default=0.0)
            expected[name] = None if queue is None else queue + drain + unload + load
        if name in waiting and model.phase not in (Phase.READY, Phase.STARTING):
            queue = expected[name]
    return expected


def fits_now(snapshot: Snapshot, name: str) -> bool:
    """Whether `name` may run beside everything that holds memory in this state."""
    holding = [other for other, model in snapshot.state.models.items() if model.phase in _HOLDING]
    return _fits(snapshot, snapshot.specs[name], holding)


@dataclass(frozen=True, slots=True)
class _Plan:
    waiting: dict[str, list[Waiting]]
    starts: list[Start]
    refusals: list[Refuse]
    leaving: dict[str, str]
    times: list[float]


def _by_model(snapshot: Snapshot) -> dict[str, list[Waiting]]:
    waiting: dict[str, list[Waiting]] = {}
    for request in snapshot.state.line:
        if request.model in snapshot.specs:
            waiting.setdefault(request.model, []).append(request)
    return waiting


def _wanted(snapshot: Snapshot, waiting: Mapping[str, list[Waiting]]) -> list[str]:
    """Models that should run and do not: by their oldest request or admin's wish, then the utilities."""
    since: dict[str, float] = {}
    for name, model in snapshot.state.models.items():
        if model.phase in (Phase.STARTING, Phase.READY, Phase.DRAINING):
            continue
        wishes = [request.joined for request in waiting.get(name, ())[:1]]
        if model.wanted is not None:
            wishes.append(model.wanted)
        if wishes:
            since[name] = min(wishes)
        elif snapshot.specs[name].role is Role.UTILITY and not model.sleep:
            since[name] = float("inf")
    return sorted(since, key=lambda name: (since[name], name))


def _make_room(snapshot: Snapshot) -> _Plan:
    """Who starts now, and who has to leave for whom."""
    specs, state = snapshot.specs, snapshot.state
    waiting = _by_model(snapshot)
    plan = _Plan(waiting, [], [], {name: "asked to sleep" for name, model in state.models.items() if model.sleep}, [])
    holding = {name for name, model in state.models.items() if model.phase in _HOLDING}
    # who will be there once all that is decided has happened
    future = {name for name in holding if state.models[name].phase is not Phase.STOPPING and name not in plan.leaving}
    blocked: set[str] = set()  # GPUs on which somebody older still waits for room
    for name in _wanted(snapshot, waiting):
        spec, model = specs[name], state.models[name]
        if any(spec.memory > snapshot.room[gpu] for gpu in spec.gpus):
            if name in waiting:
                plan.refusals.append(Refuse(name, tuple(request.id for request in waiting[name])))
            continue
        if model.phase is Phase.FAILED and model.retry_at > state.now:
            plan.times.append(model.retry_at)
            continue
        stopping = model.phase is Phase.STOPPING
        if not stopping and _fits(snapshot, spec, holding) and _fits(snapshot, spec, future):
            plan.starts.append(Start(name))
            holding.add(name)
            future.add(name)
            continue
        if blocked >= set(spec.gpus) or (name not in waiting and model.wanted is None):
            continue
        if not blocked & set(spec.gpus):
            for victim in _victims(snapshot, spec, future, waiting):
                plan.leaving[victim] = f"making room for {name}"
                future.discard(victim)
        blocked |= set(spec.gpus)  # one that waits on one of its GPUs only keeps its room on the others
        future.add(name)
    return plan


def _fits(snapshot: Snapshot, spec: ModelSpec, residents: Collection[str]) -> bool:
    """Whether `spec` may run beside `residents`."""
    for gpu in spec.gpus:
        others = [snapshot.specs[name] for name in residents if name != spec.name and gpu in snapshot.specs[name].gpus]
        if others and (spec.role is Role.EXCLUSIVE or any(other.role is Role.EXCLUSIVE for other in others)):
            return False
        if spec.memory + sum(other.memory for other in others) > snapshot.room[gpu]:
            return False
    return True


def _victims(
    snapshot: Snapshot, spec: ModelSpec, residents: Collection[str], waiting: Mapping[str, list[Waiting]]
) -> list[str]:
    """The residents that leave so that `spec` fits; none if that does not help yet."""

    def reluctance(name: str) -> tuple[bool, bool, bool, bool, float, str]:
        model = snapshot.state.models[name]
        is_utility = snapshot.specs[name].role is Role.UTILITY
        return (
            is_utility,
            model.pinned,
            model.phase is not Phase.DRAINING,  # who is leaving already goes on leaving
            model.in_flight > 0,
            model.last_used,
            name,
        )

    def may_leave(name: str) -> bool:
        model = snapshot.state.models.get(name)
        if model is None or not set(snapshot.specs[name].gpus) & set(spec.gpus):
            return False
        if model.phase is Phase.STARTING:  # a load that nobody waits for any more
            return name not in waiting and model.wanted is None and not model.in_flight
        return model.phase in (Phase.READY, Phase.DRAINING)

    staying = set(residents)
    chosen: list[str] = []
    for name in sorted(filter(may_leave, residents), key=reluctance):
        if _fits(snapshot, spec, staying):
            break
        staying.discard(name)
        chosen.append(name)
    if not _fits(snapshot, spec, staying):
        return []
    for name in reversed(chosen.copy()):  # whoever turns out not to be needed stays, the most valuable first
        if _fits(snapshot, spec, staying | {name}):
            staying.add(name)
            chosen.remove(name)
    return chosen


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
