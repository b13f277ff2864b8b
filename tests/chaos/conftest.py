"""A stack of its own for each test: its parts are killed, frozen and started again."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from observer import Observer
from stack import Model, Stack

MODELS = [
    Model("small", tokens_per_second=40),
    Model("left", gpu="1", memory="60GiB", tokens_per_second=40, alone=True),
    Model("right", gpu="1", memory="60GiB", tokens_per_second=40, alone=True),
]


@pytest.fixture(scope="session")
def whole_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(
        tmp_path_factory.mktemp("chaos"),
        MODELS,
        gpus={"0": {"memory": "100GiB"}, "1": {"memory": "100GiB"}},
        settings={
            "keepalive_interval": "300ms",
            "scheduling": {"patience": 0, "minimum_service": 0, "hold_share": 0},  # strictly by age
            "cooldown": {"first": "100ms", "longest": "100ms"},
        },
    ) as stack:
        yield stack


@pytest.fixture
def stack(whole_stack: Stack) -> Stack:
    """The stack with all its parts up."""
    for part in (whole_stack.redis, whole_stack.router, whole_stack.gateway):
        if not part.running:
            part.start()
        part.thaw()
    whole_stack.until_up()
    return whole_stack


@pytest.fixture
async def hearth(stack: Stack) -> AsyncIterator[Observer]:
    """The stack as this test sees it. All models are asleep at first, and nothing may be left of its requests."""
    async with Observer(stack) as observer:
        for name in stack.models:
            await observer.sleep(name)
        yield observer
        await observer.refresh_token()
        for name in await observer.awake():
            await observer.engines[name].clear_faults()
        await observer.until_no_requests()
    for name in stack.models:
        assert "overlap" not in stack.starts(name)
