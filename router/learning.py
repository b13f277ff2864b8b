"""What the acting router learns from its callers: their pauses and the lengths of their requests.

The store collects what happens; this is the one place that turns it into histograms and averages, and writes them back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from router.scheduling import costs, gaps
from router.store.fleet import FleetStore
from router.store.state import FleetState, ModelState, Observation

#: Callers of one model whose pauses are remembered; the one that was not heard of for the longest is forgotten first.
_CALLERS = 500
#: Under this name are the pauses of all of a model's callers together.
_ALL = ""


class Learning:
    """The learned pauses of a fleet's callers, held in memory and kept in the store."""

    def __init__(self, store: FleetStore, models: Sequence[str]) -> None:
        self._store = store
        self._models = list(models)
        self._pauses: dict[str, dict[str, tuple[float, ...]]] = {}
        self._services: dict[tuple[str, str], float] = {}  # each caller's, of the models that it has used

    async def load(self) -> None:
        """Read what is known. Raises StoreUnavailable."""
        self._pauses = {name: await self._store.pauses(name) for name in self._models}

    async def take(self, holder: str, state: FleetState) -> None:
        """Learn from what the store has collected. `state` is a snapshot from just before."""
        if not state.observations and not _anybody_gone(state):
            return
        changed: dict[str, set[str]] = {}
        services: dict[str, list[float]] = {}
        for seen in await self._store.take_observations(holder, gaps.HORIZON, self._models):
            if seen.model not in self._pauses:
                continue
            if seen.kind == "service":
                services.setdefault(seen.model, []).append(seen.seconds)
                own = (seen.model, seen.caller)
                self._services[own] = costs.average(self._services.get(own), seen.seconds)
            else:
                changed.setdefault(seen.model, set()).update(self._observe(seen))
        for model, callers in changed.items():
            known = self._pauses[model]
            await self._store.set_pauses(model, {caller: known.get(caller) for caller in callers})
        for model, lengths in services.items():
            await self._store.set_fields(model, _service_fields(state.models[model], lengths))

    def enrich(self, state: FleetState) -> FleetState:
        """The state with what is known of each model's pauses, and of each of its present callers."""
        models = dict(state.models)
        for name, model in state.models.items():
            known = self._pauses.get(name, {})
            callers = {
                each: replace(caller, gaps=known.get(each, ()), service_seconds=self._services.get((name, each)))
                for each, caller in model.callers.items()
            }
            models[name] = replace(model, gaps=known.get(_ALL, ()), callers=callers)
        return replace(state, models=models)

    def _observe(self, seen: Observation) -> set[str]:
        """Whose pauses have changed."""
        known = self._pauses[seen.model]
        known[_ALL] = gaps.observe(known.get(_ALL, ()), seen.seconds, gaps.POOL_MEMORY)
        # taken out and put in: the order is that of their last change
        known[seen.caller] = gaps.observe(known.pop(seen.caller, ()), seen.seconds, gaps.CALLER_MEMORY)
        changed = {_ALL, seen.caller}
        if len(known) > _CALLERS + 1:
            oldest = next(caller for caller in known if caller not in changed)
            del known[oldest]
            self._services.pop((seen.model, oldest), None)
            changed.add(oldest)
        return changed


def _anybody_gone(state: FleetState) -> bool:
    return any(
        caller.last_end is not None and state.now - caller.last_end > gaps.HORIZON
        for model in state.models.values()
        for caller in model.callers.values()
    )


def _service_fields(model: ModelState, lengths: Sequence[float]) -> dict[str, str | int]:
    average, longest = model.service_seconds, model.longest_service
    for length in lengths:
        average, longest = costs.average(average, length), costs.longest(longest, length)
    return {"service_ms": math.ceil(1000 * (average or 0.0)), "longest_service_ms": math.ceil(1000 * (longest or 0.0))}
