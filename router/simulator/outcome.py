"""What a simulated policy achieved, in numbers."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from router.scheduling.bound import bound, configured_limits
from router.simulator.fleet import Fleet
from router.simulator.history import History
from router.simulator.ours import Hearth
from router.simulator.workload import Session
from router.simulator.world import Contender, World


@dataclass(frozen=True, slots=True)
class Outcome:
    """One policy on one workload; times are seconds. session_stretch: the time that all sessions took, pauses included,
    over the time that they take alone on loaded models; None when they take no time.
    bound_s: the longest possible wait, for a policy that has one. load_seconds: spent on loading."""

    policy: str
    requests: int
    session_stretch: float | None
    wait_mean_s: float
    wait_p50_s: float
    wait_p99_s: float
    wait_max_s: float
    bound_s: float | None
    swaps: int
    load_seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """One policy's outcome and the history that it comes from."""

    outcome: Outcome
    history: History


def simulate(
    fleet: Fleet,
    sessions: Sequence[Session],
    contender: Contender,
    *,
    retry: float = 5.0,
    watch: Callable[[int], None] = lambda _: None,
) -> Run:
    """Run one policy on a workload. watch: see World.run. Raises ValueError when there is nothing to run."""
    if not sessions:
        raise ValueError("the workload has no requests: simulate more hours, or a higher rate")
    world = World(fleet, sessions, contender, retry=retry)
    history = world.run(watch)
    waits = sorted(request.wait for request in history.requests)
    outcome = Outcome(
        policy=contender.name,
        requests=len(waits),
        session_stretch=_stretch(fleet, history),
        wait_mean_s=statistics.fmean(waits),
        wait_p50_s=_quantile(waits, 0.5),
        wait_p99_s=_quantile(waits, 0.99),
        wait_max_s=waits[-1],
        bound_s=_bound(world) if isinstance(contender, Hearth) else None,
        swaps=len(history.loads),
        load_seconds=sum(fleet.models[name].load_seconds for name in history.loads),
    )
    return Run(outcome, history)


def _stretch(fleet: Fleet, history: History) -> float | None:
    """Without those whose client may leave: how long they take alone is not known."""
    took = alone = 0.0
    for session, end in history.sessions:
        if session.steps[0].patience is None:
            took += end - session.start
            alone += session.alone_seconds(fleet.models)
    return took / alone if alone > 0 else None


def _bound(world: World) -> float:
    specs = world.fleet.specs
    limits = {name: configured_limits(spec) for name, spec in specs.items()}
    return max(bound(world.contender.policy, specs, world.snapshot().state.models, limits).values())


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
