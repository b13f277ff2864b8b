"""Connections to Redis and the Lua scripts, with the limits that keep a request from hanging on them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from router.errors import Fenced, StoreUnavailable
from router.store.keys import PREFIX

#: Seconds. Together they stay below the 2 s within which a client must hear that Redis is away.
CONNECT_TIMEOUT = 0.5
ANSWER_TIMEOUT = 1.0

_SCRIPTS = Path(__file__).parent / "scripts"


#: redis-py's types cover text and bytes, sync and async at once; with decode_responses all of it is text here.
Client = Any


def connect(url: str, *, answer_timeout: float = ANSWER_TIMEOUT, connections: int = 32) -> Client:
    """A client for `url` (redis:// or unix://). A broken pooled connection is replaced once, without a pause."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=ANSWER_TIMEOUT,
        decode_responses=True,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=answer_timeout,
        retry=Retry(NoBackoff(), 1, supported_errors=(exceptions.ConnectionError,)),
        protocol=2,
    )
    return Redis.from_pool(pool)


@cache
def _source(name: str) -> str:
    return "\n".join((_SCRIPTS / f"{part}.lua").read_text(encoding="utf-8") for part in ("prelude", name))


class Scripts:
    """The scripts on one connection pool; `await scripts.run("admit", ...)` is one round trip."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._known: dict[str, Any] = {}

    async def run(self, name: str, *arguments: str | int | float) -> Any:
        """The script's answer. Raises StoreUnavailable, and Fenced when a router's token is no longer the current one."""
        script = self._known.get(name)
        if script is None:
            script = self._known[name] = self._redis.register_script(_source(name))
        async with translated():
            return await script(args=(PREFIX, *arguments))


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Redis's errors as ours."""
    try:
        yield
    except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
        raise StoreUnavailable(f"Redis does not answer: {error}") from error
    except exceptions.ResponseError as error:
        if "FENCED" in str(error):
            raise Fenced(str(error)) from error
        if "READONLY" in str(error) or "MISCONF" in str(error) or "OOM" in str(error):
            raise StoreUnavailable(f"Redis cannot write: {error}") from error
        raise
