"""Who acts on the GPUs: a lock in Redis with a life, and a fencing token that makes a late holder harmless."""

from __future__ import annotations

import time

from router.errors import StoreUnavailable
from router.store.fleet import FleetStore

#: Seconds that the lock outlives its last renewal, and between renewals.
LIFE = 6.0
RENEWAL = 1.0


class GpuLock:
    """The lock as one router sees it. `holder` goes with every write and is what the scripts compare.

    Redis cannot stop a start or stop that is already on its way to the runtime. `may_act` closes that gap: it is false
    from the moment at which somebody else could have taken the lock, by this router's own monotonic clock.
    """

    def __init__(self, store: FleetStore, router: str) -> None:
        self._store = store
        self._router = router
        self.holder = ""
        self._until = 0.0

    @property
    def may_act(self) -> bool:
        """Whether this router certainly still holds the lock."""
        return bool(self.holder) and time.monotonic() < self._until

    async def take(self) -> bool:
        """Take the lock if it is free. Raises StoreUnavailable."""
        asked = time.monotonic()
        holder = await self._store.take_lock(self._router, LIFE)
        if holder is None:
            return False
        self.holder, self._until = holder, asked + LIFE - RENEWAL
        return True

    async def keep(self) -> bool:
        """Renew the lock. False when it is lost: taken by another, or not renewed in time."""
        asked = time.monotonic()
        try:
            kept = await self._store.keep_lock(self.holder, LIFE)
        except StoreUnavailable:
            return self.may_act
        if kept:
            self._until = asked + LIFE - RENEWAL
        else:
            self.holder = ""
        return kept

    def forget(self) -> None:
        """Stop acting without asking the store: this router is not, or not certainly, the holder any more."""
        self.holder = ""

    async def drop(self) -> None:
        """Give the lock back, so that another router need not wait for its life to pass. Raises StoreUnavailable."""
        holder, self.holder = self.holder, ""
        if holder:
            await self._store.drop_lock(holder)
