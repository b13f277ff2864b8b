"""Names in Redis. The Lua scripts build the same names from the same prefix."""

from __future__ import annotations

PREFIX = "hearth:"

LINE = PREFIX + "line"
WAITING = PREFIX + "waiting"
EVENTS = PREFIX + "events"
NUDGE = PREFIX + "nudge"
ROUTER = PREFIX + "router"
OBSERVED = PREFIX + "observed"
REQUESTS = PREFIX + "requests"
REFUSALS = PREFIX + "refusals"
API_TOKEN = PREFIX + "router:token"


def model(name: str) -> str:
    """Hash of one model's state."""
    return f"{PREFIX}model:{name}"


def leases(name: str) -> str:
    """Hash of one model's leases by request id."""
    return f"{PREFIX}leases:{name}"


def callers(name: str) -> str:
    """Hash of one model's callers: open requests, those in flight, and the end of the last one."""
    return f"{PREFIX}callers:{name}"


def pauses(name: str) -> str:
    """Hash of the learned pauses of one model's callers by caller; those of all of them under the empty name."""
    return f"{PREFIX}pauses:{name}"


def worker(worker_id: str) -> str:
    """Exists while a gateway worker's heartbeat goes on."""
    return f"{PREFIX}worker:{worker_id}"


def inbox(worker_id: str) -> str:
    """Stream of verdicts for the requests of one gateway worker."""
    return f"{PREFIX}inbox:{worker_id}"


#: Published on when a key is made, changed or revoked.
KEY_CHANGES = PREFIX + "keys:changes"
