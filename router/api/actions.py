"""What an admin can ask of a model, as the store keeps it for the controller. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from router.store.state import Phase


class Action(StrEnum):
    """What an admin can ask of a model."""

    WAKE = "wake"
    SLEEP = "sleep"
    TOUCH = "touch"
    PIN = "pin"
    UNPIN = "unpin"


@dataclass(frozen=True, slots=True)
class Asked:
    """fields: of the model in the store, which the controller sees in its next snapshot. message: for people."""

    fields: dict[str, str | int]
    message: str


def asked(action: Action, phase: Phase, now: int, *, force: bool = False) -> Asked | None:
    """What an action means for a model in this phase; None where it means nothing: only what is awake can be touched.

    now: milliseconds on the store's clock. force: sleep without waiting for running requests.
    """
    match action:
        case Action.WAKE if phase is Phase.READY:
            return Asked({"last_used": now}, "It is awake already.")
        case Action.WAKE:
            return Asked({"wanted": now, "sleep": "", "retry_at": 0}, "It will be woken as soon as there is room.")
        case Action.SLEEP if phase in (Phase.ASLEEP, Phase.FAILED):
            return Asked({"sleep": "drain", "wanted": ""}, "It is asleep, and stays so until it is asked for.")
        case Action.SLEEP if force:
            return Asked({"sleep": "force", "wanted": ""}, "It is being stopped.")
        case Action.SLEEP:
            return Asked({"sleep": "drain", "wanted": ""}, "It will sleep when its running requests are finished.")
        case Action.TOUCH:
            awake = phase in (Phase.READY, Phase.DRAINING)
            return Asked({"last_used": now}, "Its idle time begins again.") if awake else None
        case Action.PIN:
            return Asked({"pinned": 1}, "It is never stopped for idleness now.")
        case Action.UNPIN:
            return Asked({"pinned": 0, "last_used": now}, "Its idle timeout counts again, from now.")
