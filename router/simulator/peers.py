"""What other schedulers do, written from their descriptions, to be compared with on the same workload."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from router.scheduling.decision import HOLDING, Action, Decision, Grant, Snapshot, Start, Stop
from router.scheduling.fit import fits, fits_now
from router.scheduling.policy import Policy
from router.settings import Role
from router.store.state import Phase, Waiting


@dataclass(frozen=True, slots=True)
class RunningFirst:
    """Requests for a running model are always served; the swap to whoever has waited longest happens as soon as
    nothing runs on the model in the way (llama-swap's rule)."""

    name: str = "running-first"
    policy: Policy = field(default_factory=Policy)

    def open_door(self, snapshot: Snapshot, model: str) -> bool:  # noqa: ARG002
        return True

    def refuses(self, snapshot: Snapshot, model: str) -> bool:  # noqa: ARG002
        return False

    def decide(self, snapshot: Snapshot) -> Decision:
        actions: list[Action] = [*_grants(snapshot)]
        models = snapshot.state.models
        busy = {name for name, model in models.items() if model.in_flight} | {action.model for action in actions}
        taken: set[str] = set()  # GPUs that somebody who has waited longer is to get
        for request in snapshot.state.line:
            gpus = set(snapshot.specs[request.model].gpus)
            if models[request.model].phase not in (Phase.STARTING, Phase.READY) and taken.isdisjoint(gpus):
                actions += _swap(snapshot, request, busy)
                taken |= gpus
        return _with_idle_stops(snapshot, actions, busy)


@dataclass(frozen=True, slots=True)
class StrictFifo:
    """One line, served in its order: nobody passes, not even for the model that runs."""

    name: str = "strict-fifo"
    policy: Policy = field(default_factory=Policy)

    def open_door(self, snapshot: Snapshot, model: str) -> bool:  # noqa: ARG002
        return False

    def refuses(self, snapshot: Snapshot, model: str) -> bool:  # noqa: ARG002
        return False

    def decide(self, snapshot: Snapshot) -> Decision:
        models = snapshot.state.models
        granted: dict[str, list[str]] = {}
        first: Waiting | None = None
        for request in snapshot.state.line:
            if models[request.model].phase is not Phase.READY:
                first = request
                break
            granted.setdefault(request.model, []).append(request.id)
        actions: list[Action] = [Grant(name, tuple(ids)) for name, ids in granted.items()]
        busy = {name for name, model in models.items() if model.in_flight or name in granted}
        if first is not None:
            actions += _swap(snapshot, first, busy)
        return _with_idle_stops(snapshot, actions, busy)


@dataclass(frozen=True, slots=True)
class Refusing:
    """No line: a request for another model than the one that is busy, or was within its idle time, is refused, and
    its client asks again a little later."""

    idle: float = 1200.0
    name: str = "refuse"
    policy: Policy = field(default_factory=Policy)

    def open_door(self, snapshot: Snapshot, model: str) -> bool:  # noqa: ARG002
        return True

    def refuses(self, snapshot: Snapshot, model: str) -> bool:
        state, specs = snapshot.state, snapshot.specs
        if state.models[model].phase in (Phase.READY, Phase.STARTING) or fits_now(snapshot, model):
            return False
        gpus = set(specs[model].gpus)
        if any(not gpus.isdisjoint(specs[request.model].gpus) for request in state.line):
            return True
        return any(
            other.phase is Phase.STARTING or other.in_flight > 0 or state.now < other.last_used + self.idle
            for name, other in state.models.items()
            if name != model and other.phase in HOLDING and not gpus.isdisjoint(specs[name].gpus)
        )

    def decide(self, snapshot: Snapshot) -> Decision:
        """Whoever has been let in is served as running-first does."""
        return RunningFirst().decide(snapshot)


def _grants(snapshot: Snapshot) -> list[Grant]:
    waiting: dict[str, list[str]] = {}
    for request in snapshot.state.line:
        if snapshot.state.models[request.model].phase is Phase.READY:
            waiting.setdefault(request.model, []).append(request.id)
    return [Grant(name, tuple(ids)) for name, ids in waiting.items()]


def _swap(snapshot: Snapshot, request: Waiting, busy: Collection[str]) -> list[Action]:
    """Start the model of `request`, or stop what is in its way and has nothing to do."""
    models, spec = snapshot.state.models, snapshot.specs[request.model]
    if models[request.model].phase in (Phase.STARTING, Phase.STOPPING):
        return []
    if fits_now(snapshot, request.model):
        return [Start(request.model)]
    staying = [name for name, model in models.items() if model.phase in HOLDING and model.phase is not Phase.STOPPING]
    if fits(snapshot, spec, staying):
        return []  # enough is on its way out
    victims = sorted(
        (
            name
            for name in staying
            if models[name].phase is Phase.READY
            and name not in busy
            and not set(snapshot.specs[name].gpus).isdisjoint(spec.gpus)
        ),
        key=lambda name: models[name].last_used,
    )
    return [Stop(name, f"making room for {request.model}") for name in victims[:1]]


def _with_idle_stops(snapshot: Snapshot, actions: list[Action], busy: Collection[str]) -> Decision:
    """Models that nobody has used for their idle timeout stop under every policy."""
    now, stopped, times = snapshot.state.now, {action.model for action in actions}, list[float]()
    for name, model in snapshot.state.models.items():
        spec = snapshot.specs[name]
        if model.phase is Phase.READY and spec.idle_timeout and spec.role is not Role.UTILITY and name not in stopped:
            deadline = (now if name in busy else model.last_used) + spec.idle_timeout
            if now >= deadline:
                actions.append(Stop(name, "idle"))
            else:
                times.append(deadline)
    return Decision(tuple(actions), min(times, default=None))
