"""Server-sent events, as the router's streams send them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

#: What a client may send back as Last-Event-ID: the id of an entry in a stream of Redis.
EVENT_ID = r"^(\d{1,19}(-\d{1,19})?)?$"
#: What is sent when there is nothing to say, so that nobody on the way takes the stream for dead.
NOTHING_NEW = ": nothing new\n\n"


def frame(name: str, data: Mapping[str, Any], event_id: str = "") -> str:
    """One event. event_id: what a client sends as Last-Event-ID when it asks for what comes after."""
    mark = f"id: {event_id}\n" if event_id else ""
    return f"{mark}event: {name}\ndata: {json.dumps(data)}\n\n"


def in_seconds(event: Mapping[str, str]) -> dict[str, Any]:
    """One of the store's events, its time in unix seconds."""
    return {**event, "at": float(event.get("at", 0)) / 1000}
