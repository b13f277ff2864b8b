"""Which models fit beside which, and who leaves so that one more fits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations

from router.config import ModelSpec
from router.scheduling import costs
from router.scheduling.decision import HOLDING, Snapshot
from router.settings import Role
from router.store.state import Phase

#: Up to so many candidates, every set of them is weighed; beyond, they go one by one and who is not needed stays.
_WEIGHED = 6


def fits(snapshot: Snapshot, spec: ModelSpec, residents: Iterable[str]) -> bool:
    """Whether `spec` may run beside `residents`."""
    specs = snapshot.specs
    others = [specs[name] for name in residents if name != spec.name]
    for gpu in spec.gpus:
        here = [other for other in others if gpu in other.gpus]
        if here and (spec.role is Role.EXCLUSIVE or any(other.role is Role.EXCLUSIVE for other in here)):
            return False
        if spec.memory + sum(other.memory for other in here) > snapshot.room[gpu]:
            return False
    return True


def fits_now(snapshot: Snapshot, name: str) -> bool:
    """Whether `name` may run beside everything that holds memory in this state."""
    holding = [other for other, model in snapshot.state.models.items() if model.phase in HOLDING]
    return fits(snapshot, snapshot.specs[name], holding)


def victims(
    snapshot: Snapshot,
    spec: ModelSpec,
    residents: Collection[str],
    waited_for: Collection[str],
    among: Collection[str] | None = None,
) -> list[str]:
    """The cheapest set of residents that leaves so that `spec` fits, the least valuable first; none if none helps yet.
    among: only these may leave.

    A model costs the more the longer its load and the shorter ago it was used; before that counts how many utilities,
    pinned and busy ones there are in the set, and whether they are leaving already."""
    prices = {name: _price(snapshot, name) for name in residents if _may_leave(snapshot, name, spec, waited_for, among)}
    ordered = sorted(prices, key=lambda name: (prices[name], name))
    staying = set(residents)
    if fits(snapshot, spec, staying) or not fits(snapshot, spec, staying.difference(ordered)):
        return []
    if len(ordered) <= _WEIGHED:
        return _cheapest(snapshot, spec, staying, ordered, prices)
    return _one_by_one(snapshot, spec, staying, ordered)


def _may_leave(
    snapshot: Snapshot, name: str, spec: ModelSpec, waited_for: Collection[str], among: Collection[str] | None
) -> bool:
    model = snapshot.state.models.get(name)
    if model is None or set(snapshot.specs[name].gpus).isdisjoint(spec.gpus):
        return False
    if among is not None and name not in among:
        return False
    if model.phase is Phase.STARTING:  # a load that nobody waits for any more
        return name not in waited_for and model.wanted is None and not model.in_flight
    return model.phase in (Phase.READY, Phase.DRAINING)


def _price(snapshot: Snapshot, name: str) -> tuple[float, ...]:
    """What it costs when a model leaves; what comes first counts before all that comes after."""
    model = snapshot.state.models[name]
    idle = max(snapshot.state.now - model.last_used, 0.0)
    swap = costs.load(model) + costs.unload(model)
    return (
        snapshot.specs[name].role is Role.UTILITY,
        model.pinned,
        model.phase is not Phase.DRAINING,
        model.in_flight > 0,
        swap / (swap + idle) if swap else 0.0,  # a load of no time costs nothing, however short ago it was used
    )


def _cheapest(
    snapshot: Snapshot,
    spec: ModelSpec,
    staying: set[str],
    ordered: Sequence[str],
    prices: Mapping[str, tuple[float, ...]],
) -> list[str]:
    """Of all sets that make enough room, the one whose prices sum to the least."""
    sets = (chosen for size in range(1, len(ordered) + 1) for chosen in combinations(ordered, size))
    enough = (chosen for chosen in sets if fits(snapshot, spec, staying.difference(chosen)))
    return list(min(enough, key=lambda chosen: tuple(map(sum, zip(*(prices[each] for each in chosen), strict=True)))))


def _one_by_one(snapshot: Snapshot, spec: ModelSpec, staying: set[str], ordered: Sequence[str]) -> list[str]:
    """The cheapest leave until there is room; then whoever is not needed for that stays, the dearest first."""
    chosen: list[str] = []
    for name in ordered:
        if fits(snapshot, spec, staying):
            break
        staying.discard(name)
        chosen.append(name)
    for name in reversed(chosen.copy()):
        if fits(snapshot, spec, staying | {name}):
            staying.add(name)
            chosen.remove(name)
    return chosen
