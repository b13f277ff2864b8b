"""Waiting for something that happens by itself."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(condition: Callable[[], T | Awaitable[T]], what: str = "", limit: float = 20.0) -> T:
    """The first true value of `condition`, asked for again and again; fails after `limit` seconds. The limit only
    ends a test that hangs: it is far above what the thing waited for takes."""
    value: object = None
    try:
        async with asyncio.timeout(limit):
            while True:
                answer = condition()
                value = await answer if inspect.isawaitable(answer) else answer
                if value:
                    return value  # type: ignore[return-value]
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"did not happen: {what or inspect.getsource(condition).strip()}; last {value!r}") from None
