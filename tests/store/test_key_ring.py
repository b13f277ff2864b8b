"""The keys in Redis: what is kept, what changes it, and what a gateway knows of it."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from eventually import eventually
from redis_server import RedisServer

from router.errors import StoreUnavailable
from router.store import keys, known_keys
from router.store.connection import Client, connect
from router.store.key_ring import KeyLimits, KeyRing, caller_of_id, digest
from router.store.known_keys import KnownKeys
from router.supervisor.parts import redis_answers, redis_command

ALL_LIMITS = KeyLimits(models=("a", "b"), rpm=5, tpm=100, parallel=2, budget=1.5, priority=3, share=0.5)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Client]:
    client = connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def ring(redis: Client) -> KeyRing:
    return KeyRing(redis)


@pytest.fixture
async def known(redis_url: str) -> AsyncIterator[KnownKeys]:
    gateway = KnownKeys(redis_url)
    await gateway.start()
    yield gateway
    await gateway.close()


@pytest.fixture
def never_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only messages make a gateway forget, not time."""
    monkeypatch.setattr(known_keys, "_REMEMBERED", 3600.0)


async def made(ring: KeyRing, name: str = "ada", limits: KeyLimits | None = None, life: float | None = None) -> str:
    secret = await ring.create(name, limits or KeyLimits(), life)
    assert secret is not None
    return secret


async def until_it_listens(redis: Client) -> None:
    async def subscribed() -> bool:
        return (await redis.pubsub_numsub(keys.KEY_CHANGES))[0][1] > 0

    await eventually(subscribed)


async def test_a_key_is_found_by_its_secret(ring: KeyRing) -> None:
    secret = await made(ring, limits=ALL_LIMITS, life=3600)
    key = await ring.of_secret(digest(secret))
    assert key is not None
    assert (key.name, key.limits, key.fingerprint) == ("ada", ALL_LIMITS, secret[-4:])
    assert key.expires is not None
    assert key.expires - key.created == pytest.approx(3600)
    assert (key.blocked, key.spend, key.tokens, key.last_used) == (False, 0.0, 0, None)
    assert await ring.of_id(key.id) == key
    assert await ring.of_secret(digest("sk-hearth-other")) is None


async def test_secrets_are_long_and_differ(ring: KeyRing) -> None:
    one, two = await made(ring, "one"), await made(ring, "two")
    assert one.startswith("sk-hearth-")
    assert len(one) == len("sk-hearth-") + 43  # 32 bytes in base64
    assert one != two


async def test_no_secret_is_kept(ring: KeyRing, redis: Client) -> None:
    secret = await made(ring)
    kept: list[str] = []
    for name in await redis.keys("*"):
        kind = await redis.type(name)
        kept += [name, str(await (redis.get(name) if kind == "string" else redis.hgetall(name)))]
    assert not any(secret in text or secret.removeprefix("sk-hearth-") in text for text in kept)
    assert digest(secret) in "".join(kept)


async def test_names_are_given_once(ring: KeyRing) -> None:
    first = await made(ring)
    assert await ring.create("ada", KeyLimits(rpm=1)) is None
    assert [key.limits.rpm for key in await ring.all()] == [None]
    assert await ring.of_secret(digest(first)) is not None


async def test_a_revoked_key_leaves_nothing(ring: KeyRing, redis: Client) -> None:
    secret = await made(ring)
    assert await ring.rotate("ada", grace=60) is not None
    assert await ring.revoke("ada")
    assert await ring.of_secret(digest(secret)) is None
    assert await ring.all() == []
    assert await redis.keys("*key*") == []
    assert not await ring.revoke("ada")
    await made(ring)  # its name is free again


async def test_blocking(ring: KeyRing) -> None:
    await made(ring)
    assert await ring.block("ada", blocked=True)
    assert [key.blocked for key in await ring.all()] == [True]
    assert await ring.block("ada", blocked=False)
    assert [key.blocked for key in await ring.all()] == [False]
    assert not await ring.block("bob", blocked=True)


async def test_rotation_keeps_all_but_the_secret(ring: KeyRing) -> None:
    old = await made(ring, limits=ALL_LIMITS)
    before = await ring.of_secret(digest(old))
    assert before is not None
    await ring.add_spend("w", 1, {before.id: (0.25, 7)})
    new = await ring.rotate("ada")
    assert new is not None
    assert await ring.of_secret(digest(old)) is None
    after = await ring.of_secret(digest(new))
    assert after is not None
    assert after == replace(before, fingerprint=new[-4:], spend=0.25, tokens=7, last_used=after.last_used)
    assert caller_of_id(after.id) == caller_of_id(before.id)
    assert await ring.rotate("bob") is None


async def test_the_old_secret_works_for_its_grace(ring: KeyRing, redis: Client) -> None:
    old = await made(ring)
    await ring.rotate("ada", grace=100)
    assert await ring.of_secret(digest(old)) is not None
    assert 99_000 < await redis.pttl(f"{keys.PREFIX}keys:secret:{digest(old)}") <= 100_000
    await ring.rotate("ada", grace=5000)  # does not lengthen what was promised for the first one
    assert await redis.pttl(f"{keys.PREFIX}keys:secret:{digest(old)}") <= 100_000
    await ring.rotate("ada", grace=0)
    assert await ring.of_secret(digest(old)) is None


async def test_spend_adds_up_and_a_batch_counts_once(ring: KeyRing) -> None:
    key = await ring.of_secret(digest(await made(ring)))
    assert key is not None
    await ring.add_spend("w", 1, {key.id: (0.1, 10), "revoked": (5.0, 5)})
    await ring.add_spend("w", 1, {key.id: (0.1, 10)})  # its answer was lost, so it came again
    await ring.add_spend("w", 2, {key.id: (0.000001, 1)})
    await ring.add_spend("v", 1, {key.id: (0.2, 4)})
    (now,) = await ring.all()
    assert now.spend == pytest.approx(0.300001)
    assert now.tokens == 15
    assert now.last_used is not None
    assert now.last_used >= now.created


async def test_keys_outlive_a_redis_that_is_killed() -> None:
    with tempfile.TemporaryDirectory(prefix="hearth-") as name:
        directory = Path(name)
        socket = directory / "redis.sock"

        def start() -> subprocess.Popen[bytes]:
            command = redis_command(socket, directory)
            return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        client = connect(f"unix://{socket}")
        process = start()
        try:
            await eventually(lambda: redis_answers(socket))
            secret = await made(KeyRing(client))
            process.kill()
            process.wait()
            process = start()
            await eventually(lambda: redis_answers(socket))
            assert await KeyRing(client).of_secret(digest(secret)) is not None
        finally:
            await client.aclose()
            process.kill()
            process.wait()


# --- what a gateway knows


async def test_a_known_key_is_asked_for_once(
    ring: KeyRing, redis: Client, known: KnownKeys, never_forgets: None
) -> None:
    secret = await made(ring)
    await until_it_listens(redis)
    assert await known.find(secret) is not None
    await redis.delete(f"{keys.PREFIX}keys:secret:{digest(secret)}")  # behind the ring's back: nothing is published
    assert await known.find(secret) is not None


async def test_a_change_is_heard_of(ring: KeyRing, redis: Client, known: KnownKeys, never_forgets: None) -> None:
    await until_it_listens(redis)
    assert await known.find("sk-hearth-none") is None
    secret = await made(ring)

    async def is_known() -> bool:
        return await known.find(secret) is not None

    await eventually(is_known)
    await ring.block("ada", blocked=True)

    async def is_blocked() -> bool:
        key = await known.find(secret)
        return key is not None and key.blocked

    await eventually(is_blocked)
    await ring.revoke("ada")

    async def is_gone() -> bool:
        return await known.find(secret) is None

    await eventually(is_gone)


async def test_what_nobody_told_is_seen_all_the_same(
    ring: KeyRing, redis: Client, known: KnownKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_keys, "_REMEMBERED", 0.05)
    secret = await made(ring)
    await until_it_listens(redis)
    assert await known.find(secret) is not None
    await redis.delete(f"{keys.PREFIX}keys:secret:{digest(secret)}")

    async def is_gone() -> bool:
        return await known.find(secret) is None

    await eventually(is_gone)


async def test_no_key_is_known_without_redis(redis_server: RedisServer, ring: KeyRing, known: KnownKeys) -> None:
    secret = await made(ring)
    assert await known.find(secret) is not None
    redis_server.kill()

    async def is_refused() -> bool:
        try:
            await known.find(secret)
        except StoreUnavailable:
            return True
        return False

    await eventually(is_refused)
    redis_server.start()


async def test_spend_counts_at_once_and_reaches_redis(ring: KeyRing, known: KnownKeys) -> None:
    secret = await made(ring)
    key = await known.find(secret)
    assert key is not None
    known.add_spend(key.id, 0.5, 3)
    known.add_spend(key.id, 0.25, 4)
    assert known.spend(key) == pytest.approx(0.75)

    async def arrived() -> bool:
        return [each.tokens for each in await ring.all()] == [7]

    await eventually(arrived)
    found = await known.find(secret)
    assert found is not None
    assert known.spend(found) == pytest.approx(0.75)


async def test_spend_outlives_a_redis_that_is_away(
    redis_server: RedisServer, ring: KeyRing, known: KnownKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_keys, "FLUSH_PAUSE", 0.02)
    key = await known.find(await made(ring))
    assert key is not None
    redis_server.freeze()
    known.add_spend(key.id, 0.5, 1)
    await eventually(lambda: known._sending)
    known.add_spend(key.id, 0.5, 1)
    assert known.spend(key) == pytest.approx(1.0)
    redis_server.thaw()

    async def arrived() -> bool:
        return [each.tokens for each in await ring.all()] == [2]

    await eventually(arrived)
    await asyncio.wait_for(known.close(), 10)
    assert [each.spend for each in await ring.all()] == [pytest.approx(1.0)]
