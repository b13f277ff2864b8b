"""What goes into a decision and what comes out: plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from router.config import ModelSpec
from router.scheduling.policy import Policy
from router.store.state import FleetState, Phase, Waiting

#: Phases in which a model holds memory.
HOLDING = frozenset({Phase.STARTING, Phase.READY, Phase.DRAINING, Phase.STOPPING})
#: Phases in which it serves, or soon will, without another load.
RUNNING = frozenset({Phase.STARTING, Phase.READY, Phase.DRAINING})


@dataclass(frozen=True, slots=True)
class Grant:
    """These waiting requests get leases on their ready model."""

    model: str
    requests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Start:
    model: str


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
    model: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """These requests can never be served: their model is larger than its GPU."""

    model: str
    requests: tuple[str, ...]


Action = Grant | Start | Stop | CloseGate | OpenGate | Refuse


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a decision depends on. room: bytes that each GPU has for models. state.models has every spec's name."""

    specs: Mapping[str, ModelSpec]
    room: Mapping[str, int]
    state: FleetState
    policy: Policy

    def waiting(self) -> dict[str, list[Waiting]]:
        """The line by model, oldest first; requests for models that nobody configured are left out."""
        found: dict[str, list[Waiting]] = {}
        for request in self.state.line:
            if request.model in self.specs:
                found.setdefault(request.model, []).append(request)
        return found


@dataclass(frozen=True, slots=True)
class Decision:
    """The actions, in order, and when to look again if nothing else happens (seconds on the snapshot's clock)."""

    actions: tuple[Action, ...]
    look_again_at: float | None
