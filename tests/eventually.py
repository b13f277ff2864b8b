"""Waiting for something that happens by itself."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any


async def eventually(condition: Callable[[], Any], what: str = "", limit: float = 20.0) -> Any:
    """The first true value of `condition` (a function, async or not); it is asked again and again. Fails after `limit`
    seconds, which only ends a test that hangs: it is far above what the thing waited for takes."""
    value: object = None
    try:
        async with asyncio.timeout(limit):
            while True:
                answer = condition()
                value = await answer if inspect.isawaitable(answer) else answer
                if value:
                    return value
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(
            f"did not happen: {what or inspect.getsource(condition).strip()}; last {value!r}"
        ) from None
