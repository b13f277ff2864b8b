"""What goes into a decision and what comes out: plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from router.config import ModelSpec
from router.scheduling.fairness import NO_TURNS, Turns
from router.scheduling.policy import Policy
from router.scheduling.warm import NOBODY, Warm, unused
from router.settings import Role
from router.store.state import FleetState, Phase, Waiting

#: Phases in which a model holds memory.
HOLDING = frozenset({Phase.STARTING, Phase.READY, Phase.DRAINING, Phase.STOPPING})
#: Phases in which it serves, or soon will, without another load.
RUNNING = frozenset({Phase.STARTING, Phase.READY, Phase.DRAINING})


@dataclass(frozen=True, slots=True)
class Grant:
    """These waiting requests get leases on their ready model. turns: where the round of its callers stands then."""

    model: str
    requests: tuple[str, ...]
    turns: Turns = NO_TURNS


@dataclass(frozen=True, slots=True)
class Start:
    """Start a model. reason: why, when nobody asks for it."""

    model: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a model, or break off its start; without `force` only if it has no lease at that instant."""

    model: str
    reason: str
    force: bool = False


@dataclass(frozen=True, slots=True)
class CloseGate:
    """Newcomers join the line; what runs is finished."""

    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class OpenGate:
    """Whoever asks for the model is served again: it need not leave any more."""

    model: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """These requests can never be served: their model is larger than its GPU."""

    model: str
    requests: tuple[str, ...]


Action = Grant | Start | Stop | CloseGate | OpenGate | Refuse


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a decision depends on. room: bytes that each GPU has for models. state.models has every spec's name.
    turns: where the round of each model's callers stands. warm: the models that should run although nobody asks."""

    specs: Mapping[str, ModelSpec]
    room: Mapping[str, int]
    state: FleetState
    policy: Policy
    turns: Mapping[str, Turns] = field(default_factory=dict)
    warm: Warm = NOBODY

    def waiting(self) -> dict[str, list[Waiting]]:
        """The line by model, oldest first; requests for models that nobody configured are left out."""
        found: dict[str, list[Waiting]] = {name: [] for name in self.specs}
        for request in self.state.line:
            if request.model in found:
                found[request.model].append(request)
        return {name: requests for name, requests in found.items() if requests}

    def spares(self) -> frozenset[str]:
        """The models that run for a warm wish alone: without it they would not have been loaded, or would have been
        stopped for idleness. To those who wait for other models they are free memory that takes one unload to get."""
        if not self.warm.wishes:
            return frozenset()
        asked_for = {request.model for request in self.state.line}
        return frozenset(name for name in self.warm.wishes if name not in asked_for and self._spare(name))

    def _spare(self, name: str) -> bool:
        spec, model = self.specs[name], self.state.models[name]
        if model.pinned or model.sleep or spec.role is Role.UTILITY:
            return False
        return unused(model) or (
            model.phase is Phase.READY
            and not model.in_flight
            and 0 < spec.idle_timeout <= self.state.now - model.last_used
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """The actions, in order, and when to look again if nothing else happens (seconds on the snapshot's clock)."""

    actions: tuple[Action, ...]
    look_again_at: float | None
