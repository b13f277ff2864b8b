"""Whose turn it is: the order in which models that are waited for get room, and how late that may begin."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from router.scheduling import costs
from router.scheduling.decision import RUNNING, Snapshot
from router.scheduling.fairness import standing
from router.scheduling.groups import competing
from router.scheduling.policy import Policy
from router.settings import Role
from router.store.state import Phase, Waiting

#: How many models are tried out of turn before it goes by age.
_TRIED = 4


@dataclass(frozen=True, slots=True)
class Claim:
    """A model that is waited for and does not run.

    since: since when its oldest request counts as waiting. priority: the highest of its requests'. count: how many they
    are. load, unload: expected seconds. worth: pieces of work done per second of the GPU's time if it is next.
    measured: whether its load has been seen. callers: those who wait for it."""

    name: str
    gpus: tuple[str, ...]
    since: float
    priority: int
    count: int
    load: float
    unload: float
    worth: float
    measured: bool
    callers: frozenset[str] = frozenset()


def claims(snapshot: Snapshot, waiting: Mapping[str, Sequence[Waiting]]) -> list[Claim]:
    """All claims, oldest first. An admin's wish counts as a request. Without those that never fit or cool down."""
    found: list[Claim] = []
    for name, model in snapshot.state.models.items():
        if model.phase in RUNNING or (model.phase is Phase.FAILED and model.retry_at > snapshot.state.now):
            continue
        requests = waiting.get(name, ())
        spec = snapshot.specs[name]
        aging = snapshot.policy.aging
        since, ranks = [], []
        if requests:
            oldest, highest = standing(requests, spec.priority, aging)
            since, ranks = [oldest], [highest]
        if model.wanted is not None:
            since.append(model.wanted - aging * spec.priority)
            ranks.append(spec.priority)
        if not since or any(spec.memory > snapshot.room[gpu] for gpu in spec.gpus):
            continue
        count = len(requests) + (model.wanted is not None)
        load, unload = costs.load(model), costs.unload(model)
        worth = count / max(load + unload + costs.work(model, count), 1e-3)
        measured = model.load_seconds is not None
        callers = frozenset(request.caller for request in requests)
        found.append(Claim(name, spec.gpus, min(since), max(ranks), count, load, unload, worth, measured, callers))
    return sorted(found, key=_age)


def patience(policy: Policy, overhead: float) -> float:
    """Seconds within which a request is to be served when the competing models' loads and unloads sum to `overhead`."""
    return float((policy.patience * overhead) ** 0.5)


def limit(snapshot: Snapshot, competing: Iterable[Claim], gpus: Collection[str]) -> float:
    """The patience that holds among these claims and what runs on these GPUs. Spares keep nobody waiting. A utility
    counts whether it runs or not: it comes back by itself, and if its load changed the patience, and with that whose
    turn it is, it could be broken off for somebody else, come back, and so on for ever."""
    found = list(competing)
    overhead = sum(claim.load + claim.unload for claim in found)
    others = set(snapshot.specs).difference(snapshot.spares(), (claim.name for claim in found))
    for name, model in snapshot.state.models.items():
        spec = snapshot.specs[name]
        counts = model.phase in RUNNING or spec.role is Role.UTILITY
        if name in others and counts and not set(gpus).isdisjoint(spec.gpus):
            overhead += costs.load(model) + costs.unload(model)
    return patience(snapshot.policy, overhead)


def latest_start(policy: Policy, waiting: Iterable[Claim], within: float) -> float:
    """When the first load has to begin so that each of these claims, served by age, is served in time."""
    latest, offset = float("inf"), 0.0
    for claim in waiting:
        offset += claim.load
        latest = min(latest, claim.since + within - offset)
        offset += policy.planned_residency + claim.unload
    return latest


class Ranking(NamedTuple):
    """order: names, as they get room. until: when that order may change. late: the names of those that have waited
    longer than their patience: nobody younger gets into their way any more."""

    order: list[str]
    until: float
    late: frozenset[str]


def ranked(snapshot: Snapshot, waiting: Sequence[Claim]) -> Ranking:
    """The order in which models that are waited for get room.

    Among those that compete for the same GPUs, the one of the highest priority that gets the most done per second is
    first, if every other can still be served in time after it; else the oldest. So whoever is late is served strictly
    by age, to which priority adds."""
    order: list[str] = []
    until = float("inf")
    late: set[str] = set()
    for group in _competing(waiting):
        within = limit(snapshot, group, {gpu for claim in group for gpu in claim.gpus})
        names, holds = _rank_group(snapshot, group, within)
        order += names
        until = min(until, holds)
        late.update(claim.name for claim in group if snapshot.state.now >= claim.since + within)
    return Ranking(order, until, frozenset(late))


def _rank_group(snapshot: Snapshot, group: Sequence[Claim], within: float) -> tuple[list[str], float]:
    """within: the patience that holds among them (s)."""
    if len(group) == 1:
        return [group[0].name], float("inf")
    policy = snapshot.policy
    by_worth = sorted(group, key=lambda claim: (-claim.priority, -claim.worth, claim.since, claim.name))
    for first in by_worth[:_TRIED]:
        others = [claim for claim in group if claim is not first]
        if _gave_way(snapshot, first, others):
            continue
        takes = first.load + policy.planned_residency + first.unload
        until = latest_start(policy, others, within) - takes
        if snapshot.state.now < until:
            return [first.name, *(claim.name for claim in by_worth if claim is not first)], until
    return [claim.name for claim in group], float("inf")


def _gave_way(snapshot: Snapshot, first: Claim, others: Iterable[Claim]) -> bool:
    """Whether this model has stopped while one of these waited, and is asked for again: it was stopped for them, so
    they are next, unless its priority is higher."""
    model = snapshot.state.models[first.name]
    stopped = model.phase in (Phase.STOPPING, Phase.ASLEEP)
    before = min(model.since, first.since)
    return stopped and any(other.since < before and other.priority >= first.priority for other in others)


def _competing(waiting: Sequence[Claim]) -> list[list[Claim]]:
    """The claims in groups that share no GPU, each oldest first; the group with the oldest first."""
    return sorted((sorted(group, key=_age) for group in competing(waiting)), key=lambda group: _age(group[0]))


def _age(claim: Claim) -> tuple[float, str]:
    return claim.since, claim.name
