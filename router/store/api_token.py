"""The secret by which a router knows its gateways. Redis is all that both can reach; who needs it first makes it."""

from __future__ import annotations

import secrets

from router.errors import StoreUnavailable
from router.store import keys
from router.store.connection import Client, translated


async def shared_api_token(redis: Client) -> str:
    """The token, made here if Redis has none (any more). Raises StoreUnavailable."""
    async with translated():
        token: str | None = await redis.get(keys.API_TOKEN)
        if token is None:
            await redis.set(keys.API_TOKEN, secrets.token_urlsafe(32), nx=True)
            token = await redis.get(keys.API_TOKEN)
    if not token:  # an empty one would let everybody in
        raise StoreUnavailable("Redis has lost the token between gateways and routers")
    return token
