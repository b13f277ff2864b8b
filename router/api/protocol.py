"""What the gateway and the router agree on, and all that the gateway needs to know of the router's API."""

from __future__ import annotations

#: By these headers the gateway says who asks. The router believes them with the token that both share through Redis.
TOKEN_HEADER = "X-Hearth-Token"  # noqa: S105 - a header's name
ROLE_HEADER = "X-Hearth-Role"
CALLER_HEADER = "X-Hearth-Caller"

#: How all addresses of keys begin.
KEYS_PATH = "/lifecycle/key"
