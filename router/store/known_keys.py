"""The gateway's side of the key ring: keys as they are now without a question to Redis for each request, and what
requests cost, told to Redis in batches.

What is remembered of a key is forgotten when a change is published and after `_REMEMBERED` in any case, so a revoked
key is refused within a second also when the message gets lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid

from router.errors import StoreUnavailable
from router.store import keys
from router.store.connection import connect, published
from router.store.key_ring import Key, KeyRing, digest
from router.store.loops import Loops

log = logging.getLogger(__name__)

#: Seconds for which a key is remembered at most, and how many are.
_REMEMBERED = 0.8
_MOST_KEYS = 2000
#: Seconds between two batches of spend.
FLUSH_PAUSE = 0.5
#: Seconds between two tries while Redis is away.
_RETRY_PAUSE = 0.2


class KnownKeys:
    """The keys for one gateway worker; `start` before use, `close` at the end."""

    def __init__(self, redis_url: str) -> None:
        self._redis = connect(redis_url, connections=8)
        self._channel = connect(redis_url, connections=2)
        self._ring = KeyRing(self._redis)
        self._worker = uuid.uuid4().hex[:12]
        self._known: dict[str, tuple[float, Key | None]] = {}
        self._changes = 0
        self._spent: dict[str, tuple[float, int]] = {}  # by key's id: US dollars and tokens that Redis has not heard of
        self._sending: dict[str, tuple[float, int]] = {}  # those of the batch that is on its way
        self._batch = 0
        self._something_spent = asyncio.Event()
        self._loops = Loops()

    async def start(self) -> None:
        """Start the tasks. Works without Redis too: keys cannot be checked until it is there."""
        self._loops.start("keys", changes=self._listen, spend=self._send_all)

    async def close(self) -> None:
        """Tell Redis of what was spent, if it can be told, and stop."""
        await self._loops.close()
        with contextlib.suppress(StoreUnavailable):
            while self._spent or self._sending:
                await self._send()
        for client in (self._redis, self._channel):
            await client.aclose()

    async def find(self, secret: str) -> Key | None:
        """The key of this secret; None when there is none. Raises StoreUnavailable."""
        name, now = digest(secret), time.monotonic()
        known = self._known.get(name)
        if known is not None and now < known[0]:
            return known[1]
        changes = self._changes
        key = await self._ring.of_secret(name)
        if changes == self._changes:  # else it may be older than a change that has been heard of
            if len(self._known) >= _MOST_KEYS:
                self._known.clear()
            self._known[name] = now + _REMEMBERED, key
        return key

    async def current(self, key_id: str) -> Key | None:
        """The key as Redis has it this moment. Raises StoreUnavailable."""
        return await self._ring.of_id(key_id)

    def spend(self, key: Key) -> float:
        """US dollars that the key has spent, with what Redis has not heard of yet."""
        return key.spend + sum(due.get(key.id, (0.0, 0))[0] for due in (self._spent, self._sending))

    def add_spend(self, key_id: str, cost: float, tokens: int) -> None:
        """A request of this key is over. Never blocks."""
        known_cost, known_tokens = self._spent.get(key_id, (0.0, 0))
        self._spent[key_id] = known_cost + cost, known_tokens + tokens
        self._something_spent.set()

    # --- the tasks

    async def _listen(self) -> None:
        """Forget all keys when one was changed, and whenever a change may have been missed."""
        while True:
            try:
                async for _ in published(self._channel, keys.KEY_CHANGES):
                    self._forget()
            except StoreUnavailable:
                self._forget()
                await asyncio.sleep(_RETRY_PAUSE)

    def _forget(self) -> None:
        self._changes += 1
        self._known.clear()

    async def _send_all(self) -> None:
        while True:
            await self._something_spent.wait()
            self._something_spent.clear()
            try:
                await self._send()
            except StoreUnavailable:
                self._something_spent.set()
            await asyncio.sleep(FLUSH_PAUSE)

    async def _send(self) -> None:
        """One batch, or the last one again when it is not known to have arrived. Raises StoreUnavailable."""
        if not self._sending:
            self._batch += 1
            self._sending, self._spent = self._spent, {}
        await self._ring.add_spend(self._worker, self._batch, self._sending)
        self._forget()  # what is remembered does not have it yet
        self._sending = {}
        if self._spent:
            self._something_spent.set()
