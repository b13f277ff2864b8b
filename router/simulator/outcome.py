"""What a simulated policy achieved, in numbers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from router.scheduling.bound import bound, configured_limits
from router.simulator.ours import Hearth
from router.simulator.workload import Session, SimulatedModel
from router.simulator.world import Contender, World


@dataclass(frozen=True, slots=True)
class Outcome:
    """One policy on one workload; times are seconds. session_stretch: the time that all sessions took, pauses included,
    over the time that they take alone on loaded models; session_stretch_median: the median session's own.
    bound_s: the longest possible wait, for a policy that has one. load_seconds: spent on loading."""

    policy: str
    requests: int
    session_stretch: float
    session_stretch_median: float
    wait_mean_s: float
    wait_p50_s: float
    wait_p99_s: float
    wait_max_s: float
    bound_s: float | None
    swaps: int
    load_seconds: float


def simulate(
    models: Sequence[SimulatedModel],
    sessions: Sequence[Session],
    contender: Contender,
    *,
    retry: float = 5.0,
    drain_timeout: float = 120.0,
) -> Outcome:
    """Run one policy on a workload. Raises ValueError when there is nothing to run."""
    if not sessions:
        raise ValueError("the workload has no requests: simulate more hours, or a higher rate")
    world = World(models, sessions, contender, retry=retry, drain_timeout=drain_timeout)
    history = world.run()
    by_name = {model.name: model for model in models}
    alone = [session.alone_seconds(by_name) for session, _ in history.spans_of_sessions]
    took = [end - session.start for session, end in history.spans_of_sessions]
    waits = sorted(history.waits)
    longest = None
    if isinstance(contender, Hearth):
        limits = {name: configured_limits(spec) for name, spec in world.specs.items()}
        longest = max(bound(contender.policy, world.specs, world.snapshot().state.models, limits).values())
    return Outcome(
        policy=contender.name,
        requests=len(waits),
        session_stretch=sum(took) / sum(alone),
        session_stretch_median=statistics.median(one / other for one, other in zip(took, alone, strict=True)),
        wait_mean_s=statistics.fmean(waits),
        wait_p50_s=_quantile(waits, 0.5),
        wait_p99_s=_quantile(waits, 0.99),
        wait_max_s=waits[-1],
        bound_s=longest,
        swaps=len(history.loads),
        load_seconds=sum(by_name[name].load_seconds for name in history.loads),
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
