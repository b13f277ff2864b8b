"""A stack with two models that do not fit together and a utility model, and somebody's key for them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "e2e"))

from observer import Observer
from programs import Home, reason_without_clients
from served import HERS, MODELS
from stack import Stack

from router.store.key_ring import KeyLimits, KeyRing


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if reason := reason_without_clients():
        pytest.skip(reason)
    with Stack(
        tmp_path_factory.mktemp("stack"),
        MODELS,
        gpus={"0": {"memory": "100GiB"}, "1": {"memory": "100GiB"}},
        settings={
            "keepalive_interval": "200ms",
            "idle_timeout": "1h",
            "scheduling": {"patience": 0, "minimum_service": 0, "hold_share": 0},
        },
    ) as stack:
        yield stack


@pytest.fixture
async def hearth(stack: Stack) -> AsyncIterator[Observer]:
    """The stack as this test sees it: the two models are asleep at first, and nothing may be left of its requests."""
    async with Observer(stack) as observer:
        for name in await observer.awake():
            await observer.sleep(name)
        yield observer
        await observer.until_no_requests()


@pytest.fixture
async def home(hearth: Observer, tmp_path: Path) -> AsyncIterator[Home]:
    """Ada's home, with her key."""
    ring = KeyRing(hearth.redis)
    secret = await ring.create("ada", KeyLimits(models=HERS), None)
    assert secret is not None
    yield Home(tmp_path / "ada", hearth.stack.url, secret)
    await ring.revoke("ada")
