"""Why a model leaves, in the words that events tell, and what they mean to those who count."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

IDLE = "idle"
ASKED = "asked to sleep"
ROOM_NEEDED = "its room is needed"
_FOR = "making room for "


class Why(StrEnum):
    """The kinds of reasons."""

    IDLE = "idle"
    ASKED = "asked"
    SWAP = "swap"
    OTHER = "other"


def making_room(whom: str, wish: str = "") -> str:
    """For the model `whom`. wish: why that is to run, when nobody asks for it."""
    return f"{_FOR}{whom} ({wish})" if wish else f"{_FOR}{whom}"


def why(reason: str) -> Why:
    """The kind of a reason."""
    if reason == ROOM_NEEDED or reason.startswith(_FOR):
        return Why.SWAP
    return {IDLE: Why.IDLE, ASKED: Why.ASKED}.get(reason, Why.OTHER)


def for_whom(reason: str, models: Collection[str]) -> str | None:
    """The one of `models` that room is made for; None when it is not said."""
    whom = reason.removeprefix(_FOR)
    if whom == reason:
        return None
    if whom in models:
        return whom
    name, _, _ = whom.rpartition(" (")
    return name if name in models else None
