"""`hearth status --watch`: drawn anew with every event and every second."""

from __future__ import annotations

import asyncio
import contextlib

from rich.console import Console
from rich.live import Live
from rich.text import Text

from router.api.views import ModelsView, RequestsView
from router.cli.server import Access, Server, ServerError
from router.cli.tables import status

_TICK = 1.0
_RETRY = 1.0


async def watch_status(access: Access, console: Console) -> None:
    """Until cancelled. Raises ServerError when the very first look fails; later ones are shown and tried again."""
    async with Server(access) as server:
        view = status(*await _look(server))
        changed = asyncio.Event()
        listener = asyncio.create_task(_listen(server, changed), name="events")
        try:
            with Live(view, console=console, auto_refresh=False, screen=console.is_terminal) as live:
                while True:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(changed.wait(), _TICK)
                    changed.clear()
                    try:
                        live.update(status(*await _look(server)), refresh=True)
                    except ServerError as error:
                        live.update(Text(str(error), "bold red"), refresh=True)
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)


async def _look(server: Server) -> tuple[ModelsView, RequestsView, float]:
    models = await server.models()
    return models, await server.requests(), models.now


async def _listen(server: Server, changed: asyncio.Event) -> None:
    """Set `changed` with every event. The tick goes on without it, so its errors are not shown."""
    while True:
        with contextlib.suppress(ServerError):
            async for _ in server.events(recent=0, follow=True):
                changed.set()
        await asyncio.sleep(_RETRY)
