"""Connections to Redis and the Lua scripts, with the limits that keep a request from hanging on them."""

from __future__ import annotations

import asyncio
import hashlib
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

#: Seconds. A client must hear within 2 s that Redis is away; the wait for a free connection is for bursts of requests.
CONNECT_TIMEOUT = 0.5
ANSWER_TIMEOUT = 0.8
POOL_TIMEOUT = 1.1
#: Seconds for which a published message is awaited before the connection is tried; redis-py can be deaf to a
#: cancellation for that long.
_LISTEN_BLOCK = 1.0

_SCRIPTS = Path(__file__).parent / "scripts"

#: What Redis answers when it cannot do something now, although nothing is wrong with the question: its memory or its
#: disk is full, it is a replica or has lost its master, a script runs for too long, or it has broken off a blocking
#: read because its role has changed. redis-py gives some of these a class, and takes the sign out of their text.
_CANNOT_NOW = (exceptions.OutOfMemoryError, exceptions.ReadOnlyError, exceptions.ClusterDownError)
_CANNOT_NOW_SIGNS = ("OOM", "MISCONF", "READONLY", "MASTERDOWN", "NOREPLICAS", "BUSY", "UNBLOCKED")

#: redis-py's types cover text and bytes, sync and async at once; with decode_responses all of it is text here.
Client = Any


def connect(url: str, *, answer_timeout: float = ANSWER_TIMEOUT, connections: int = 32) -> Client:
    """A client for `url` (redis:// or unix://). A broken pooled connection is replaced once, without a pause."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=POOL_TIMEOUT,
        driver_info=None,  # it would cost each new connection a round trip
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


@cache
def _digest(name: str) -> str:
    """The script's name in Redis."""
    return hashlib.sha1(_source(name).encode(), usedforsecurity=False).hexdigest()


class Scripts:
    """The scripts on one connection pool; `await scripts.run("admit", ...)` is one round trip."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis

    async def run(self, name: str, *arguments: str | int | float) -> Any:
        """The script's answer. Raises StoreUnavailable, and Fenced when a router's token is not the current one."""
        # not redis-py's Script object: it alone would cost each request about a tenth of what the lifecycle costs it
        async with translated():
            try:
                return await self._redis.execute_command("EVALSHA", _digest(name), 0, PREFIX, *arguments)
            except exceptions.NoScriptError:  # new to this Redis, or forgotten in a restart; EVAL teaches it
                return await self._redis.execute_command("EVAL", _source(name), 0, PREFIX, *arguments)


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Redis's errors as ours. A cancellation that arrives inside is never lost: redis-py waits with asyncio.wait_for,
    which up to Python 3.11 forgets one that comes together with the result."""
    task = asyncio.current_task()
    cancellations = task.cancelling() if task is not None else 0
    failure: Exception | None = None
    try:
        yield
    except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
        failure = StoreUnavailable(f"Redis does not answer: {error}")
        failure.__cause__ = error
    except exceptions.ResponseError as error:
        failure = _of_answer(error)
    if task is not None and task.cancelling() > cancellations:
        raise asyncio.CancelledError
    if failure is not None:
        raise failure


async def published(redis: Client, channel: str) -> AsyncIterator[None]:
    """Yields once it listens, since something may have been published before, and then with every message. Raises
    StoreUnavailable when the connection ends."""
    async with redis.pubsub() as subscription:
        async with translated():
            await subscription.subscribe(channel)
        yield
        while True:
            async with translated():
                message = await subscription.get_message(ignore_subscribe_messages=True, timeout=_LISTEN_BLOCK)
                if message is None:
                    await subscription.ping()
            if message is not None:
                yield


def _of_answer(error: exceptions.ResponseError) -> Exception:
    """Our error for one that Redis answers with; its own when that is a fault in the question."""
    if "FENCED" in str(error):
        translation: Exception = Fenced(str(error))
    elif isinstance(error, _CANNOT_NOW) or any(sign in str(error) for sign in _CANNOT_NOW_SIGNS):
        translation = StoreUnavailable(f"Redis cannot do this now: {error}")
    else:
        return error
    translation.__cause__ = error
    return translation
