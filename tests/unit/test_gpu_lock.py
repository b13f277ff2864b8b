"""When a router may act, by its own clock; the lock itself is tested with Redis."""

from __future__ import annotations

import pytest

from router import gpu_lock
from router.errors import StoreUnavailable
from router.gpu_lock import LIFE, RENEWAL, GpuLock


class _Store:
    """Answers as told, and lets time pass while it does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.slowness = 0.0
        self.answer: object = True
        self.dropped: list[str] = []
        monkeypatch.setattr(gpu_lock.time, "monotonic", lambda: self.now)

    async def take_lock(self, router: str, life: float) -> str | None:
        self.now += self.slowness
        return f"{router}:1" if self.answer else None

    async def keep_lock(self, holder: str, life: float) -> bool:
        self.now += self.slowness
        if isinstance(self.answer, Exception):
            raise self.answer
        return bool(self.answer)

    async def drop_lock(self, holder: str) -> bool:
        self.dropped.append(holder)
        return True


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> _Store:
    return _Store(monkeypatch)


@pytest.fixture
def lock(store: _Store) -> GpuLock:
    return GpuLock(store, "one")  # type: ignore[arg-type]


async def test_nobody_acts_without_the_lock(lock: GpuLock, store: _Store) -> None:
    store.answer = False
    assert not await lock.take()
    assert not lock.may_act


async def test_holder_stops_acting_before_the_lock_can_be_another_routers(lock: GpuLock, store: _Store) -> None:
    assert await lock.take()
    store.now += LIFE - RENEWAL - 0.01
    assert lock.may_act
    store.now += 0.02
    assert not lock.may_act


async def test_time_counts_from_the_question_not_from_the_answer(lock: GpuLock, store: _Store) -> None:
    store.slowness = LIFE
    assert await lock.take()
    assert not lock.may_act, "the lock's life began up to LIFE ago"


async def test_redis_away_for_a_moment_is_borne_until_the_lock_may_be_gone(lock: GpuLock, store: _Store) -> None:
    await lock.take()
    store.answer = StoreUnavailable("away")
    assert await lock.keep()
    store.now += LIFE
    assert not await lock.keep()


async def test_lost_lock_is_known_at_once(lock: GpuLock, store: _Store) -> None:
    await lock.take()
    store.answer = False
    assert not await lock.keep()
    assert not lock.may_act
    await lock.drop()
    assert store.dropped == [], "what is not held is not dropped"


async def test_drop_ends_acting(lock: GpuLock, store: _Store) -> None:
    await lock.take()
    await lock.drop()
    assert not lock.may_act
    assert store.dropped == ["one:1"]
