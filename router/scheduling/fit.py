"""Which models fit beside which, and who leaves so that one more fits."""

from __future__ import annotations

from collections.abc import Collection, Iterable
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
    models = snapshot.state.models

    def may_leave(name: str) -> bool:
        model = models.get(name)
        if model is None or not set(snapshot.specs[name].gpus) & set(spec.gpus):
            return False
        if among is not None and name not in among:
            return False
        if model.phase is Phase.STARTING:  # a load that nobody waits for any more
            return name not in waited_for and model.wanted is None and not model.in_flight
        return model.phase in (Phase.READY, Phase.DRAINING)

    def price(name: str) -> tuple[float, ...]:
        model = models[name]
        idle = max(snapshot.state.now - model.last_used, 0.0)
        swap = costs.load(model) + costs.unload(model)
        return (
            snapshot.specs[name].role is Role.UTILITY,
            model.pinned,
            model.phase is not Phase.DRAINING,
            model.in_flight > 0,
            swap / (swap + idle),
        )

    prices = {name: price(name) for name in residents if may_leave(name)}
    ordered = sorted(prices, key=lambda name: (prices[name], name))
    staying = set(residents)
    if fits(snapshot, spec, staying):
        return []
    if not fits(snapshot, spec, staying.difference(ordered)):
        return []
    if len(ordered) <= _WEIGHED:
        sets = (chosen for size in range(1, len(ordered) + 1) for chosen in combinations(ordered, size))
        enough = (chosen for chosen in sets if fits(snapshot, spec, staying.difference(chosen)))
        return list(
            min(enough, key=lambda chosen: tuple(map(sum, zip(*(prices[each] for each in chosen), strict=True))))
        )
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
