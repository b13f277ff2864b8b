"""What `hearth up` shows of its parts while they start and stop: spinners on a terminal, else lines."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from router.quantities import format_duration

_FRAME = 0.1


class PartsDisplay:
    """Shows what begins and finishes. A terminal that has gone away does not disturb the server."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._open: dict[str, tuple[float, TaskID | None]] = {}

    def begin(self, part: str, doing: str) -> None:
        if not self._console.is_terminal:
            self._open[part] = (time.monotonic(), None)
            self.tell(f"{part}: {doing}")
            return
        if self._progress is None:
            self._progress = Progress(
                SpinnerColumn(finished_text="[green]✓"),
                TextColumn("{task.fields[part]:<8} {task.description}", markup=False),
                TimeElapsedColumn(),
                console=self._console,
                auto_refresh=False,  # a second thread would do it; the event loop's own task does
            )
            self._progress.start()
        self._open[part] = (time.monotonic(), self._progress.add_task(doing, total=1, part=part))

    def finish(self, part: str, outcome: str) -> None:
        began, task = self._open.pop(part, (time.monotonic(), None))
        if self._progress is None or task is None:
            self.tell(f"{part}: {outcome} after {format_duration(time.monotonic() - began)}")
            return
        self._progress.update(task, completed=1, description=outcome)
        self._refresh()
        if not self._open:
            self.end()

    def tell(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def end(self) -> None:
        """Leave what was drawn as it is; what comes next is drawn below."""
        if self._progress:
            with contextlib.suppress(OSError):
                self._progress.stop()
        self._progress = None
        self._open.clear()

    @contextlib.asynccontextmanager
    async def drawing(self) -> AsyncIterator[None]:
        """Keeps the spinners turning while the body runs."""
        task = asyncio.create_task(self._draw(), name="drawing")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.end()

    async def _draw(self) -> None:
        while True:
            await asyncio.sleep(_FRAME)
            self._refresh()

    def _refresh(self) -> None:
        if self._progress:
            with contextlib.suppress(OSError):
                self._progress.refresh()
