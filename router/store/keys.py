"""Names in Redis. The Lua scripts build the same names from the same prefix."""

from __future__ import annotations

PREFIX = "hearth:"

LINE = PREFIX + "line"
WAITING = PREFIX + "waiting"
EVENTS = PREFIX + "events"
NUDGE = PREFIX + "nudge"
ROUTER = PREFIX + "router"
API_TOKEN = PREFIX + "router:token"


def model(name: str) -> str:
    """Hash of one model's state."""
    return f"{PREFIX}model:{name}"


def leases(name: str) -> str:
    """Hash of one model's leases by request id."""
    return f"{PREFIX}leases:{name}"


def worker(worker_id: str) -> str:
    """Exists while a gateway worker's heartbeat goes on."""
    return f"{PREFIX}worker:{worker_id}"


def inbox(worker_id: str) -> str:
    """Stream of verdicts for the requests of one gateway worker."""
    return f"{PREFIX}inbox:{worker_id}"
