"""The real scheduler as a contender."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.scheduler import decide
from router.scheduling.decision import Decision, Snapshot
from router.scheduling.policy import Policy


@dataclass(frozen=True, slots=True)
class Hearth:
    """The scheduler as the controller runs it: a ready model with an open gate takes every request, up to its limit."""

    name: str = "hearth"
    policy: Policy = field(default_factory=Policy)

    def open_door(self, snapshot: Snapshot, model: str) -> bool:
        parallel = snapshot.specs[model].parallel
        if parallel is None:
            return True
        waiting = any(request.model == model for request in snapshot.state.line)
        return not waiting and snapshot.state.models[model].in_flight < parallel

    def refuses(self, snapshot: Snapshot, model: str) -> bool:  # noqa: ARG002
        return False

    def decide(self, snapshot: Snapshot) -> Decision:
        return decide(snapshot)
