"""What other schedulers do, written from their descriptions, to be compared with on the same workload."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.scheduling.decision import HOLDING, Action, Decision, Grant, Snapshot, Start, Stop
from router.scheduling.fit import fits_now
from router.scheduling.policy import Policy
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
        actions = _grants(snapshot)
        models = snapshot.state.models
        for request in snapshot.state.line:
            if models[request.model].phase in (Phase.STARTING, Phase.READY):
                continue
            busy = {name for name, model in models.items() if model.in_flight} | {grant.model for grant in actions}
            return Decision((*actions, *_swap(snapshot, request, busy)), None)
        return Decision(tuple(actions), None)


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
        for request in snapshot.state.line:
            if models[request.model].phase is Phase.READY:
                granted.setdefault(request.model, []).append(request.id)
                continue
            actions: list[Action] = [Grant(name, tuple(ids)) for name, ids in granted.items()]
            busy = {name for name, model in models.items() if model.in_flight or name in granted}
            return Decision((*actions, *_swap(snapshot, request, busy)), None)
        return Decision(tuple(Grant(name, tuple(ids)) for name, ids in granted.items()), None)


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
        state = snapshot.state
        if state.models[model].phase in (Phase.READY, Phase.STARTING) or fits_now(snapshot, model):
            return False
        if state.line:
            return True
        return any(
            other.phase is Phase.STARTING or other.in_flight > 0 or state.now < other.last_used + self.idle
            for name, other in state.models.items()
            if name != model and other.phase in HOLDING
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


def _swap(snapshot: Snapshot, request: Waiting, busy: set[str]) -> list[Action]:
    """Start the model of `request`, or stop what is in its way and has nothing to do."""
    models = snapshot.state.models
    if models[request.model].phase in (Phase.STARTING, Phase.STOPPING):
        return []
    if fits_now(snapshot, request.model):
        return [Start(request.model)]
    victims = sorted((name for name, model in models.items() if model.phase is Phase.READY and name not in busy),
                     key=lambda name: models[name].last_used)  # fmt: skip
    return [Stop(name, f"making room for {request.model}") for name in victims[:1]]
