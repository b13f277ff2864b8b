"""Whose turn it is: the order in which models that are waited for get room, and how late that may begin."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from router.scheduling import costs
from router.scheduling.decision import RUNNING, Snapshot
from router.scheduling.policy import Policy
from router.store.state import Phase, Waiting

#: How many models are tried out of turn before it goes by age.
_TRIED = 4


@dataclass(frozen=True, slots=True)
class Claim:
    """A model that is waited for and does not run. since: when its oldest request joined. count: its requests.
    load, unload: expected seconds. worth: pieces of work done per second of the GPU's time if it is next."""

    name: str
    gpus: tuple[str, ...]
    since: float
    count: int
    load: float
    unload: float
    worth: float


def claims(snapshot: Snapshot, waiting: Mapping[str, Sequence[Waiting]]) -> list[Claim]:
    """All claims, oldest first. An admin's wish counts as a request. Without those that never fit or cool down."""
    found: list[Claim] = []
    for name, model in snapshot.state.models.items():
        if model.phase in RUNNING or (model.phase is Phase.FAILED and model.retry_at > snapshot.state.now):
            continue
        requests = waiting.get(name, ())
        since = [request.joined for request in requests[:1]] + ([] if model.wanted is None else [model.wanted])
        spec = snapshot.specs[name]
        if not since or any(spec.memory > snapshot.room[gpu] for gpu in spec.gpus):
            continue
        count = len(requests) + (model.wanted is not None)
        load, unload = costs.load(model), costs.unload(model)
        worth = count / max(load + unload + costs.work(model, count), 1e-3)
        found.append(Claim(name, spec.gpus, min(since), count, load, unload, worth))
    return sorted(found, key=_age)


def patience(policy: Policy, overhead: float) -> float:
    """Seconds within which a request is to be served when the competing models' loads and unloads sum to `overhead`."""
    return float((policy.patience * overhead) ** 0.5)


def limit(snapshot: Snapshot, competing: Iterable[Claim], gpus: Collection[str]) -> float:
    """The patience that holds among these claims and what runs on these GPUs."""
    overhead = sum(claim.load + claim.unload for claim in competing)
    for name, model in snapshot.state.models.items():
        if model.phase in RUNNING and not set(gpus).isdisjoint(snapshot.specs[name].gpus):
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


def ranked(snapshot: Snapshot, waiting: Sequence[Claim]) -> tuple[list[str], float]:
    """The names in the order in which they get room, and until when that order holds.

    Among those that compete for the same GPUs, the one that gets the most done per second is first, if every other can
    still be served in time after it; else the oldest. So whoever is late is served strictly by age."""
    order: list[str] = []
    until = float("inf")
    for group in _competing(waiting):
        names, holds = _rank_group(snapshot, group)
        order += names
        until = min(until, holds)
    return order, until


def _rank_group(snapshot: Snapshot, group: Sequence[Claim]) -> tuple[list[str], float]:
    if len(group) == 1:
        return [group[0].name], float("inf")
    policy = snapshot.policy
    within = limit(snapshot, group, {gpu for claim in group for gpu in claim.gpus})
    by_worth = sorted(group, key=lambda claim: (-claim.worth, claim.since, claim.name))
    for first in by_worth[:_TRIED]:
        others = [claim for claim in group if claim is not first]
        takes = first.load + policy.planned_residency + first.unload
        until = latest_start(policy, others, within) - takes
        if snapshot.state.now < until:
            return [first.name, *(claim.name for claim in by_worth if claim is not first)], until
    return [claim.name for claim in group], float("inf")


def _competing(waiting: Sequence[Claim]) -> list[list[Claim]]:
    """The claims in groups that share no GPU, each oldest first; the group with the oldest first."""
    groups: list[tuple[set[str], list[Claim]]] = []
    for claim in waiting:
        gpus, members = set(claim.gpus), [claim]
        apart: list[tuple[set[str], list[Claim]]] = []
        for group in groups:
            if group[0].isdisjoint(gpus):
                apart.append(group)
            else:
                gpus |= group[0]
                members += group[1]
        groups = [*apart, (gpus, sorted(members, key=_age))]
    return [members for _, members in sorted(groups, key=lambda group: _age(group[1][0]))]


def _age(claim: Claim) -> tuple[float, str]:
    return claim.since, claim.name
