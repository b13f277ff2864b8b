"""What the server says, as tables for people. Pure: the same views give the same tables."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.api.views import GpuView, ModelsView, ModelView, RequestsView, RequestView
from router.cli.server import Event
from router.quantities import format_duration, format_size
from router.store.state import Phase

_STYLES = {
    Phase.READY: "green",
    Phase.STARTING: "yellow",
    Phase.DRAINING: "yellow",
    Phase.STOPPING: "yellow",
    Phase.FAILED: "bold red",
    Phase.ASLEEP: "dim",
}


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
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("MODEL", overflow="fold")
    for heading in ("PHASE", "SINCE"):
        table.add_column(heading, no_wrap=True)
    for heading in ("RUNNING", "WAITING", "MEMORY"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("STOPS IN", no_wrap=True)
    for model in models:
        cells = [
            Text(model.name),
            Text(model.phase, _STYLES[model.phase]),
            Text(format_duration(max(0.0, now - model.since)) if model.since else ""),
            Text(str(model.in_flight or "")),
            Text(str(model.waiting or "")),
            Text(format_size(model.memory)),
            Text(stops_in(model, now)),
        ]
        table.add_row(*cells)
    return table


def settings_table(models: Sequence[ModelView]) -> Table:
    """What is set for each model, and what was learned of it."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("MODEL", overflow="fold")
    for heading in ("PHASE", "GPU", "ROLE"):
        table.add_column(heading, no_wrap=True)
    for heading in ("MEMORY", "IDLE TIMEOUT", "LOADS IN", "UNLOADS IN"):
        table.add_column(heading, justify="right", no_wrap=True)
    for model in models:
        table.add_row(
            Text(model.name),
            Text(model.phase, _STYLES[model.phase]),
            Text(",".join(model.gpus)),
            Text(model.role),
            Text(format_size(model.memory)),
            Text(format_duration(model.idle_timeout) if model.idle_timeout else "never"),
            Text("" if model.load_seconds is None else format_duration(model.load_seconds)),
            Text("" if model.unload_seconds is None else format_duration(model.unload_seconds)),
        )
    return table


def stops_in(model: ModelView, now: float) -> str:
    """The idle countdown, or why there is none."""
    if model.pinned:
        return "pinned"
    if model.phase is not Phase.READY:
        return ""
    if model.in_flight:
        return "in use"
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
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("PLACE", justify="right", no_wrap=True)
    for heading in ("REQUEST FOR", "OF", "FOR", "EXPECTED"):
        table.add_column(heading, no_wrap=True)
    for request in requests:
        expected = request.expected_seconds
        table.add_row(
            Text(str(request.position) if request.position else "runs"),
            Text(request.model),
            Text(request.alias),
            Text(format_duration(request.seconds)),
            Text("" if expected is None else f"in about {format_duration(expected)}"),
        )
    return table


def event_line(event: Event) -> Text:
    """One event in one line, its time in this machine's zone."""
    clock = time.strftime("%H:%M:%S", time.localtime(event.at))
    line = Text(f"{clock}  ", "dim")
    line.append(f"{event.event:<14}", "bold red" if event.event in ("failed", "died") else "bold")
    line.append(event.model, "default")
    if event.detail:
        line.append(f"  {event.detail}", "default")
    return line


def _notes(models: Sequence[ModelView], now: float) -> list[Text]:
    """A line, of any length, for each model of which there is something to say."""
    return [Text(f"{model.name}: {note}", _STYLES[model.phase]) for model in models if (note := _note(model, now))]


def _note(model: ModelView, now: float) -> str:
    parts = [model.error] if model.error else []
    if model.retry_at is not None and model.retry_at > now:
        parts.append(f"may be tried again in {format_duration(model.retry_at - now)}")
    if model.phase is Phase.STARTING and model.expected_seconds is not None:
        parts.append(f"ready in about {format_duration(model.expected_seconds)}")
    return "; ".join(parts)
