"""Tasks that run for as long as their owner does. One that ends before would not be missed, so its end is logged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)


class Loops:
    """The endless tasks of one owner; `close` ends them."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, owner: str, **loops: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task for each of `loops`, named after the owner and the keyword."""
        for name, loop in loops.items():
            task = asyncio.create_task(loop(), name=f"{owner}-{name}")
            task.add_done_callback(_log_failure)
            self._tasks.append(task)

    async def close(self) -> None:
        """Cancel the tasks and return when all have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("%s has failed and does nothing any more; restart this process", task.get_name(), exc_info=error)
