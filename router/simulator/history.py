"""What happened in a simulation: every request, every session that came to its end, and what each model did when."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.simulator.workload import Session, Step
from router.store.state import Phase


@dataclass(slots=True, eq=False)
class Request:
    """A request on its way. granted: when it got its model, if ever. cut_off: the drain limit ended it."""

    id: str
    session: Session
    index: int
    joined: float
    granted: float | None = None
    ended: float | None = None
    cut_off: bool = False

    @property
    def step(self) -> Step:
        return self.session.steps[self.index]

    @property
    def wait(self) -> float:
        """Seconds until it got its model, or its client gave up."""
        until = self.ended if self.granted is None else self.granted
        return 0.0 if until is None else until - self.joined


@dataclass(frozen=True, slots=True)
class History:
    """Times are seconds since the beginning. requests: all, in the order of their ends. sessions: those that came to
    their end, and when. loads: the models in the order of their loads. spans: per model, its phases since when."""

    requests: list[Request] = field(default_factory=list)
    sessions: list[tuple[Session, float]] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    spans: dict[str, list[tuple[float, Phase]]] = field(default_factory=dict)
