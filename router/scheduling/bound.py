"""The longest that a request can wait, as a formula of the costs' limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from router.config import ModelSpec
from router.scheduling import costs
from router.scheduling.groups import competing
from router.scheduling.policy import Policy
from router.scheduling.turns import patience
from router.store.state import ModelState


@dataclass(frozen=True, slots=True)
class Limits:
    """What one residency of a model takes at most, in seconds. drain: its longest request, or the drain limit."""

    load: float
    unload: float
    drain: float

    def residency(self, policy: Policy) -> float:
        """Seconds from the beginning of its load until its memory is free for the next."""
        return self.load + policy.minimum_service + self.drain + self.unload


def configured_limits(spec: ModelSpec) -> Limits:
    """What the configuration enforces: beyond it a load has failed, and a stop or a drain is forced."""
    return Limits(spec.start_timeout, spec.unload_limit, spec.drain_timeout)


def learned_limits(spec: ModelSpec, model: ModelState) -> Limits:
    """The longest that was seen lately of each, within what the configuration enforces; that, where none was seen."""

    def limit(seen: float | None, enforced: float) -> float:
        return enforced if seen is None else min(seen, enforced)

    return Limits(
        limit(model.longest_load, spec.start_timeout),
        limit(model.longest_unload, spec.unload_limit),
        limit(model.longest_service, spec.drain_timeout),
    )


def bound(
    policy: Policy, specs: Mapping[str, ModelSpec], models: Mapping[str, ModelState], limits: Mapping[str, Limits]
) -> dict[str, float]:
    """The longest wait for each model (s): the patience with every competitor in need, then the residency that is under
    way when that has passed, then one of each competitor whose request is older, then its own load."""
    result: dict[str, float] = {}
    for members in competing(specs.values()):
        group = [spec.name for spec in members]
        overhead = sum(costs.load(models[name]) + costs.unload(models[name]) for name in group)
        residencies = {name: limits[name].residency(policy) for name in group}
        whole = sum(residencies.values())
        for name in group:
            result[name] = (
                patience(policy, overhead) + max(residencies.values()) + (whole - residencies[name]) + limits[name].load
            )
    return result
