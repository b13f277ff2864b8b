"""The real scheduler as a contender."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.scheduler import decide
from router.scheduling.decision import Decision, Snapshot
from router.scheduling.policy import Policy


@dataclass(frozen=True, slots=True)
class Hearth:
    """The scheduler as the controller runs it: a ready model with an open gate takes every request."""

    name: str = "hearth"
    policy: Policy = field(default_factory=Policy)

    def open_door(self, snapshot: Snapshot, model: str) -> bool:  # noqa: ARG002
        return True

    def refuses(self, snapshot: Snapshot, model: str) -> bool:  # noqa: ARG002
        return False

    def decide(self, snapshot: Snapshot) -> Decision:
        return decide(snapshot)
