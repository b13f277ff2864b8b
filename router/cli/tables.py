"""What the server says, as tables for people. Pure: the same views give the same tables."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.api.views import GpuView, ModelsView, ModelView, RequestsView, RequestView
from router.cli.server import Event
from router.memory.usage import Declaration
from router.quantities import format_duration, format_size
from router.store.state import Phase

#: How each phase is written.
PHASE_STYLES = {
    Phase.READY: "green",
    Phase.STARTING: "yellow",
    Phase.DRAINING: "yellow",
    Phase.STOPPING: "yellow",
    Phase.FAILED: "bold red",
    Phase.ASLEEP: "dim",
}
_DECLARATION_STYLES = {
    Declaration.UNKNOWN: "dim",
    Declaration.FITTING: "green",
    Declaration.TOO_LOW: "bold red",
    Declaration.TOO_HIGH: "yellow",
}
#: Events that an admin should see.
_ALARMS = ("failed", "died", "memory-late", "memory-over", "memory-unread")

_HALF_A_DAY = 12 * 3600


def bare_table() -> Table:
    """A table without lines, its columns two blanks apart."""
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))


def status(models: ModelsView, requests: RequestsView, now: float) -> RenderableType:
    """Everything: models, memory, requests. now: seconds on the server's clock."""
    parts: list[RenderableType] = [models_table(models.models, now)]
    parts.extend(_notes(models.models, now))
    parts.extend(memory_lines(models.gpus))
    if not models.acting:
        parts.append(Text("The router stands by: another one acts.", "yellow"))
    if models.trouble:
        parts.append(Text(f"No model can be woken now: {models.trouble}", "bold red"))
    if requests.requests:
        parts.append(requests_table(requests.requests))
    else:
        parts.append(Text("No requests.", "dim"))
    return Group(*parts)


def models_table(models: Sequence[ModelView], now: float) -> Table:
    """What each model does."""
    table = bare_table()
    table.add_column("MODEL", overflow="fold")
    for heading in ("PHASE", "SINCE"):
        table.add_column(heading, no_wrap=True)
    for heading in ("RUNNING", "WAITING", "MEMORY"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("STOPS IN", no_wrap=True)
    for model in models:
        cells = [
            Text(model.name),
            Text(model.phase, PHASE_STYLES[model.phase]),
            Text(format_duration(max(0.0, now - model.since)) if model.since else ""),
            Text(str(model.in_flight or "")),
            Text(str(model.waiting or "")),
            Text(format_size(model.memory)),
            Text(stops_in(model, now)),
        ]
        table.add_row(*cells)
    return table


def memory_report(view: ModelsView) -> RenderableType:
    """What each model declares and really takes, and what each GPU has."""
    return Group(_measured_table(view.models), Text(), _gpus_table(view.gpus))


def _measured_table(models: Sequence[ModelView]) -> Table:
    table = bare_table()
    table.add_column("MODEL", overflow="fold")
    for heading in ("DECLARED", "MEASURED", "DIFFERENCE"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("DECLARATION", no_wrap=True)
    for model in models:
        measured = model.measured_memory
        table.add_row(
            Text(model.name),
            Text(format_size(model.memory)),
            Text("" if measured is None else format_size(measured)),
            Text("" if measured is None else _difference(measured - model.memory)),
            Text(model.declaration, _DECLARATION_STYLES[model.declaration]),
        )
    return table


def _gpus_table(gpus: Sequence[GpuView]) -> Table:
    table = bare_table()
    table.add_column("GPU", overflow="fold")
    for heading in ("TOTAL", "RESERVE", "FOR MODELS", "CLAIMED", "FREE NOW"):
        table.add_column(heading, justify="right", no_wrap=True)
    for gpu in gpus:
        sizes = [format_size(size) for size in (gpu.memory, gpu.reserve, gpu.room, gpu.claimed)]
        table.add_row(gpu.name, *sizes, "not measured" if gpu.free is None else format_size(gpu.free))
    return table


def _difference(size: int) -> str:
    return ("+" if size >= 0 else "-") + format_size(abs(size))


def stops_in(model: ModelView, now: float) -> str:
    """The idle countdown, or why there is none; for a model that does not run yet, why it will."""
    if model.pinned:
        return "pinned"
    if model.in_flight and model.phase is Phase.READY:
        return "in use"
    if model.warm is not None and (model.warm.until is None or model.phase is not Phase.READY):
        return model.warm.reason
    if model.phase is not Phase.READY:
        return ""
    if model.warm is not None and model.warm.until is not None:
        return f"until {clock(model.warm.until, day=model.warm.until - now > _HALF_A_DAY)}"
    if model.stops_at is None:
        return "never"
    return format_duration(max(0.0, model.stops_at - now))


def memory_lines(gpus: Sequence[GpuView]) -> list[Text]:
    """For each GPU what the models that are awake claim of it."""
    return [
        Text(f"GPU {gpu.name}: {format_size(gpu.claimed)} of {format_size(gpu.room)} claimed", "dim") for gpu in gpus
    ]


def requests_table(requests: Sequence[RequestView]) -> Table:
    """What runs, then the line in its order."""
    table = bare_table()
    table.add_column("PLACE", justify="right", no_wrap=True)
    for heading in ("REQUEST FOR", "OF", "FOR", "EXPECTED", "AT MOST"):
        table.add_column(heading, no_wrap=True)
    for request in requests:
        expected = request.expected_seconds
        table.add_row(
            Text(str(request.position) if request.position else "runs"),
            Text(request.model),
            Text(request.alias),
            Text(format_duration(request.seconds)),
            Text("" if expected is None else f"in about {format_duration(expected)}"),
            Text("" if request.at_most_seconds is None else f"in {format_duration(request.at_most_seconds)}"),
        )
    return table


def event_line(event: Event) -> Text:
    """One event in one line, its time in this machine's zone."""
    clock = time.strftime("%H:%M:%S", time.localtime(event.at))
    line = Text(f"{clock}  ", "dim")
    line.append(f"{event.event:<14}", "bold red" if event.event in _ALARMS else "bold")
    line.append(event.model, "default")
    if event.detail:
        line.append(f"  {event.detail}", "default")
    return line


def clock(at: float, *, day: bool) -> str:
    """A moment in this machine's zone, with or without the day of the week."""
    return time.strftime("%a %H:%M" if day else "%H:%M", time.localtime(at))


def _notes(models: Sequence[ModelView], now: float) -> list[Text]:
    """A line, of any length, for each model of which there is something to say."""
    return [Text(f"{model.name}: {note}", PHASE_STYLES[model.phase]) for model in models if (note := _note(model, now))]


def _note(model: ModelView, now: float) -> str:
    parts = [model.error] if model.error else []
    if model.retry_at is not None and model.retry_at > now:
        parts.append(f"may be tried again in {format_duration(model.retry_at - now)}")
    if model.phase is Phase.STARTING and model.expected_seconds is not None:
        parts.append(f"ready in about {format_duration(model.expected_seconds)}")
    return "; ".join(parts)
