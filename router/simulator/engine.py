"""One simulated engine: its phase, what it serves, and what was learned of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from router.scheduling import costs, gaps
from router.simulator.fleet import SimulatedModel
from router.simulator.history import Request
from router.store.state import CallerState, ModelState, Phase

#: Seconds for which a model is left alone after its first failure in a row, and at most.
FIRST_COOLDOWN = 5.0
LONGEST_COOLDOWN = 600.0


@dataclass(slots=True)
class Engine:
    """A model's state, changed in place. leases: its requests; serving: how many of them it works on; queue: those
    beyond its concurrency. load: counts its loads."""

    model: SimulatedModel
    phase: Phase = Phase.ASLEEP
    since: float = 0.0
    ready_at: float = 0.0
    last_used: float = 0.0
    retry_at: float = 0.0
    failures: int = 0
    leases: dict[str, Request] = field(default_factory=dict)
    serving: int = 0
    load: int = 0
    queue: deque[Request] = field(default_factory=deque)
    service_seconds: float | None = None
    gaps: tuple[float, ...] = ()
    callers: dict[str, CallerState] = field(default_factory=dict)
    _state: ModelState | None = None

    def state(self) -> ModelState:
        """What the store would say of it. Kept until something changes: refused clients ask very often."""
        if self._state is None:
            self._state = ModelState(
                phase=self.phase,
                since=self.since,
                in_flight=len(self.leases),
                last_used=self.last_used,
                failures=self.failures,
                retry_at=self.retry_at,
                load_seconds=self.model.load_seconds,
                unload_seconds=self.model.unload_seconds,
                service_seconds=self.service_seconds,
                ready_at=self.ready_at,
                gaps=self.gaps,
                callers=self.callers,
            )
        return self._state

    def cools_down(self, now: float) -> bool:
        """Whether it has failed and is not to be started yet."""
        return self.phase is Phase.FAILED and self.retry_at > now

    def enter(self, phase: Phase, now: float) -> None:
        """A new phase begins. A load that worked begins a residency; one that failed leaves the model alone for a
        while, longer with each failure in a row."""
        if phase is Phase.READY and self.phase is Phase.STARTING:
            self.ready_at = self.last_used = now
            self.failures = 0
        elif phase is Phase.FAILED:
            self.failures += 1
            self.retry_at = now + min(FIRST_COOLDOWN * 2 ** (self.failures - 1), LONGEST_COOLDOWN)
        self.phase, self.since = phase, now
        self._state = None

    # --- requests, and what is learned from them

    def asked(self, caller: str, now: float, moved: float) -> None:
        """A caller asks for it, perhaps after a pause. moved: when its last request ended that has waited for another
        model."""
        known = self.callers.get(caller)
        if known is not None and known.last_end is not None:
            gap = now - known.last_end if moved <= known.last_end else float("inf")
            self.gaps = gaps.observe(self.gaps, gap, gaps.POOL_MEMORY)
            learned = gaps.observe(known.gaps, gap, gaps.CALLER_MEMORY)
            self.callers[caller] = replace(known, last_end=None, gaps=learned)
            self._state = None

    def begin(self, request: Request) -> None:
        """A request gets its lease."""
        caller = request.session.caller
        known = self.callers.get(caller, CallerState())
        self.leases[request.id] = request
        self.callers[caller] = replace(known, last_end=None, in_flight=known.in_flight + 1)
        self._state = None

    def end(self, request: Request, now: float) -> None:
        """A lease ends."""
        caller = request.session.caller
        known = self.callers[caller]
        del self.leases[request.id]
        self.last_used = now
        ran = now - (request.granted or 0.0)
        self.service_seconds = costs.average(self.service_seconds, ran)
        self.callers[caller] = replace(
            known,
            last_end=None if known.in_flight > 1 else now,
            in_flight=known.in_flight - 1,
            service_seconds=costs.average(known.service_seconds, ran),
        )
        self._state = None

    def forget(self, caller: str, now: float) -> None:
        """A caller counts as gone, if it has not come back since."""
        known = self.callers.get(caller)
        if known and known.last_end is not None and known.last_end <= now - gaps.HORIZON:
            self.gaps = gaps.observe(self.gaps, float("inf"), gaps.POOL_MEMORY)
            learned = gaps.observe(known.gaps, float("inf"), gaps.CALLER_MEMORY)
            self.callers[caller] = replace(known, last_end=None, gaps=learned)
            self._state = None
