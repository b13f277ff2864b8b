"""When each model is expected to answer: what callers are told while they wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from router.scheduling import costs
from router.scheduling.bound import Limits, learned_limits
from router.scheduling.decision import HOLDING, Snapshot
from router.scheduling.fairness import latest, standing
from router.scheduling.fit import fits
from router.scheduling.gate import stay
from router.scheduling.groups import competing
from router.scheduling.turns import Claim, claims, patience, ranked
from router.store.state import Phase, Waiting


@dataclass(frozen=True, slots=True)
class Outlook:
    """When each model answers, in seconds from now. expected: a request that asks for it now, or the oldest that waits
    for it; None as long as a load that it depends on has never been measured. at_most: a request that asks for it now.
    waiting_at_most: every request that waits for it, for models that are waited for."""

    expected: Mapping[str, float | None]
    at_most: Mapping[str, float]
    waiting_at_most: Mapping[str, float]


def outlook(snapshot: Snapshot) -> Outlook:
    """What callers are told."""
    waiting = snapshot.waiting()
    rivals = claims(snapshot, waiting)
    expected = _expected(snapshot, waiting, rivals)
    newcomers, line = _at_most(snapshot, waiting, rivals)
    return Outlook(
        expected,
        {name: max(limit, expected[name] or 0.0) for name, limit in newcomers.items()},
        {name: max(limit, expected[name] or 0.0) for name, limit in line.items()},
    )


def _expected(
    snapshot: Snapshot, waiting: Mapping[str, Sequence[Waiting]], rivals: Sequence[Claim]
) -> dict[str, float | None]:
    """Seconds until each model is expected to answer a request that asks for it now: how long the callers of what runs
    are likely to stay, the swaps whose turn it is before, one after the other, and its own. Built on learned costs, so
    it is an estimate; the bound is router.scheduling.bound. None as long as a load that it depends on has never been
    measured."""
    state, specs = snapshot.state, snapshot.specs
    order = ranked(snapshot, rivals).order
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
            expected[name] = _until_a_place(snapshot, name, len(waiting.get(name, ())))
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


def _until_a_place(snapshot: Snapshot, name: str, waiting: int) -> float:
    """Seconds until a model that is awake serves one more: at once, unless it serves only so many at a time."""
    model, parallel = snapshot.state.models[name], snapshot.specs[name].parallel
    if parallel is None or model.in_flight + waiting < parallel:
        return 0.0
    return costs.service(model) * (1 + waiting // parallel)


def _at_most(
    snapshot: Snapshot, waiting: Mapping[str, Sequence[Waiting]], rivals: Sequence[Claim]
) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds within which each model answers a request that asks for it now, and one that waits for it, if no load,
    stop and request takes longer than the longest that was seen lately (where none was: than is allowed).

    The formula of router.scheduling.bound, for this moment: what is left of the patience, one residency under way, one
    of each model whose oldest request counts as older, and its own load. Whoever waits for the same model may leave and
    take their age along, so a request is told what holds by its own. A request of a higher priority that comes later
    can add the policy's aging for each step of the difference."""
    state, specs, policy = snapshot.state, snapshot.specs, snapshot.policy
    limits = {name: learned_limits(specs[name], state.models[name]) for name in specs}
    residency = {name: limits[name].residency(policy) for name in specs}
    oldest = {claim.name: claim.since for claim in rivals}
    for name, requests in waiting.items():  # these come back as soon as they have left
        if state.models[name].phase is Phase.DRAINING:
            oldest[name], _ = standing(requests, specs[name].priority, policy.aging)
    newest = {name: latest(requests, specs[name].priority, policy.aging) for name, requests in waiting.items()}
    newcomers: dict[str, float] = {}
    line: dict[str, float] = {}
    for members in competing(specs.values()):
        group = [spec.name for spec in members]
        within = patience(
            policy, sum(costs.load(state.models[name]) + costs.unload(state.models[name]) for name in group)
        )
        longest = max(residency[name] for name in group)
        side_by_side = all(fits(snapshot, specs[name], group) for name in group)
        claiming = [name for name in group if name in oldest]
        for name in group:
            at_once = _without_a_turn(snapshot, name, limits[name], len(waiting.get(name, ())), side_by_side)
            everyone = sum(residency[other] for other in claiming if other != name)
            newcomers[name] = within + longest + everyone + limits[name].load if at_once is None else at_once
            if name not in newest:
                continue
            left = max(within - (state.now - newest[name]), 0.0)
            ahead = sum(residency[other] for other in claiming if other != name and oldest[other] <= newest[name])
            line[name] = left + longest + ahead + limits[name].load if at_once is None else at_once
    return newcomers, line


def _without_a_turn(snapshot: Snapshot, name: str, limits: Limits, waiting: int, side_by_side: bool) -> float | None:
    """The same for a model that is awake or for which nobody has to leave; None for one that waits for its turn."""
    model = snapshot.state.models[name]
    if model.phase is Phase.READY:
        return _until_a_place(snapshot, name, waiting)
    if model.phase is Phase.STARTING:
        return max(limits.load - (snapshot.state.now - model.since), 0.0)
    if side_by_side:  # it may itself be on its way out
        return (limits.drain + limits.unload if model.phase in HOLDING else 0.0) + limits.load
    return None
