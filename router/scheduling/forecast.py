"""When each model is expected to answer: what callers are told while they wait."""

from __future__ import annotations

from router.scheduling import costs
from router.scheduling.decision import HOLDING, Snapshot
from router.scheduling.fit import fits
from router.scheduling.gate import stay
from router.scheduling.turns import claims, ranked
from router.store.state import Phase


def forecast(snapshot: Snapshot) -> dict[str, float | None]:
    """Seconds until each model is expected to answer a request that asks for it now: how long the callers of what runs
    are likely to stay, the swaps whose turn it is before, one after the other, and its own. Built on learned costs, so
    it is an estimate; the bound is router.scheduling.bound. None as long as a load that it depends on has never been
    measured."""
    state, specs = snapshot.state, snapshot.specs
    waiting = snapshot.waiting()
    rivals = claims(snapshot, waiting)
    order, _ = ranked(snapshot, rivals)
    holding = {name for name, model in state.models.items() if model.phase in HOLDING}
    leaves: dict[str, float] = {}
    for name in holding:
        found = stay(snapshot, name, rivals, waiting.get(name, ()))
        drain = costs.service(state.models[name]) if state.models[name].in_flight else 0.0
        likely = costs.work(state.models[name], found.active) if state.models[name].callers else 0.0
        leaves[name] = max(drain, min(likely, max(found.deadline - state.now, 0.0)))
    expected: dict[str, float | None] = {}
    queue: float | None = 0.0
    for name in dict.fromkeys([*order, *state.models]):
        model = state.models[name]
        load = model.load_seconds
        if model.phase is Phase.READY:
            expected[name] = 0.0
        elif load is None:
            expected[name] = None
        elif model.phase is Phase.STARTING:
            expected[name] = max(load - (state.now - model.since), load * 0.05)
        elif fits(snapshot, specs[name], holding):
            expected[name] = load
        else:
            others = [other for other in holding if not set(specs[other].gpus).isdisjoint(specs[name].gpus)]
            before = max((leaves[other] for other in others), default=0.0)
            unload = max((costs.unload(state.models[other]) for other in others), default=0.0)
            expected[name] = None if queue is None else queue + before + unload + load
        if name in order:
            queue = expected[name]
    return expected
