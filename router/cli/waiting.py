"""`--wait`: what was asked of a model is followed until it is done, or has failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from router.api.views import ModelView
from router.cli.server import Server, ServerError
from router.quantities import format_duration
from router.store.state import Phase

_INTERVAL = 0.25


async def act_and_wait(
    server: Server, name: str, action: str, *, force: bool, limit: float, show: Callable[[str], None]
) -> str:
    """Wake or put to sleep, and wait up to `limit` seconds. show: gets a line for each change on the way.
    Returns how it ended. Raises ServerError when the model failed or the time is over."""
    before = await server.model(name)
    await server.act(name, action, force=force)
    began, shown = time.monotonic(), ""
    while True:
        model = await server.model(name)
        took = format_duration(time.monotonic() - began)
        if has_failed(before, model):
            raise ServerError(f"{name} failed after {took}: {model.error or 'no reason given'}")
        if is_done(action, model):
            return f"{name} is {model.phase}, after {took}."
        if time.monotonic() - began >= limit:
            raise ServerError(f"{name} is {model.phase} after {took}; gave up waiting.")
        line = describe(model)
        if line != shown:
            show(line)
            shown = line
        await asyncio.sleep(_INTERVAL)


def has_failed(before: ModelView, now: ModelView) -> bool:
    """Whether it failed since `before` was read; it may have been failed already then, and is being tried again."""
    return now.phase is Phase.FAILED and (now.since, now.failures) != (before.since, before.failures)


def is_done(action: str, model: ModelView) -> bool:
    """A failed model's engine is gone, so it sleeps as well."""
    if action == "wake":
        return model.phase is Phase.READY
    return model.phase in (Phase.ASLEEP, Phase.FAILED)


def describe(model: ModelView) -> str:
    """What the model does now, and how long that may take."""
    text = f"{model.name} is {model.phase}"
    if model.phase is Phase.DRAINING and model.in_flight:
        return f"{text}: {model.in_flight} running"
    if model.phase is Phase.STARTING and model.load_seconds is not None:
        return f"{text}: usually takes {format_duration(model.load_seconds)}"
    return text
