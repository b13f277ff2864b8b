"""`hearth smoke`: the standard requests through the gateway, to one model after another."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from router.api.views import ModelView
from router.catalogue import Card
from router.cli.options import Url, access_to, run, seconds
from router.cli.server import Access, Server, ServerError
from router.cli.tables import bare_table
from router.quantities import format_duration
from router.store.state import Phase
from router.trying.asking import Asker
from router.trying.smoke import Result, try_model

#: Seconds between two looks at what a model does that is waited for.
_LOOK = 1.0


def smoke(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Without one: those that are ready now.", show_default=False),
    ] = None,
    url: Url = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every model that is served: each is woken, one after another.")
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            parser=seconds,
            metavar="DURATION",
            show_default="1h",
            help="Longest silence of one request, its wait for the model included.",
        ),
    ] = 3600.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Ask models the standard requests: text, stream, and tools and a picture where they are said to take them.

    Exit code 1 when one failed. The requests are real ones: they wait in line, and wake what sleeps.
    """
    if names and everything:
        raise typer.BadParameter("name models, or say --all")
    run(_smoke(access_to(url), names or [], everything=everything, limit=timeout, as_json=as_json))


async def _smoke(access: Access, names: Sequence[str], *, everything: bool, limit: float, as_json: bool) -> None:
    results: list[Result] = []
    err = Console(stderr=True)
    async with Server(access) as server, Asker(access.url, access.key, limit) as asker:
        cards = await _chosen(server, names, everything=everything)
        fine = True
        for card in cards:
            async with _telling(server, card.name, err) as tell:
                fine = await try_model(asker, card, results.append, tell) and fine
            if not as_json:
                Console(soft_wrap=True).print(table([result for result in results if result.model == card.name]))
    if as_json:
        typer.echo(json.dumps({"passed": fine, "results": [result.as_json() for result in results]}, indent=2))
    elif len(cards) > 1:
        bad = list(dict.fromkeys(result.model for result in results if result.passed is False))
        typer.echo(
            f"{len(cards) - len(bad)} of {len(cards)} models passed" + (f"; not {', '.join(bad)}" if bad else "")
        )
    if not fine:
        raise typer.Exit(1)


async def _chosen(server: Server, names: Sequence[str], *, everything: bool) -> list[Card]:
    """The cards of what is tried. Raises ServerError for an unknown name, and when there is nothing to try."""
    views = {view.name: view for view in (await server.models()).models}
    cards = {card.name: card for card in (await server.catalogue()).cards}
    if not names:
        names = [name for name, view in views.items() if everything or view.phase is Phase.READY]
        names = [name for name in names if "*" not in name]  # which of a wildcard's models is meant, only people know
        if not names:
            raise ServerError("No model is awake now: name one, or say --all to wake each in turn.")
    return [await card_of(server, name, cards, views) for name in dict.fromkeys(names)]


async def card_of(server: Server, name: str, cards: dict[str, Card], views: dict[str, ModelView]) -> Card:
    """What is known of a model that can be asked. Raises ServerError when it is unknown or disabled."""
    if name not in views:
        card = cards.get(name)
        if card is not None and card.catalogue.disabled:
            raise ServerError(f"{name} is disabled: {card.catalogue.disabled}.")
        await server.model(name)  # raises, and says which there are
    return cards.get(name, Card(name=name))


@contextlib.asynccontextmanager
async def _telling(server: Server, name: str, console: Console) -> AsyncIterator[Teller]:
    """Says what is asked and, while it waits, how long the model will take; a spinner on a terminal, else lines."""
    teller = Teller(name, console)
    task = asyncio.create_task(teller.watch(server), name=f"watching {name}")
    try:
        yield teller
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        teller.end()


class Teller:
    """Called with the name of each probe as it is sent."""

    def __init__(self, name: str, console: Console) -> None:
        self._name, self._console = name, console
        self._probe, self._waits, self._shown = "", "", ""
        self._status = console.status(name) if console.is_terminal else None
        if self._status:
            self._status.start()

    def __call__(self, probe: str) -> None:
        self._probe = probe
        self._show()

    async def watch(self, server: Server) -> None:
        """Follows the model until it is cancelled. That the server does not answer, the probes will say."""
        while True:
            with contextlib.suppress(ServerError):
                self._waits = wait_line(await server.model(self._name))
                self._show()
            await asyncio.sleep(_LOOK)

    def end(self) -> None:
        if self._status:
            self._status.stop()

    def _show(self) -> None:
        if self._status:
            self._status.update(": ".join(filter(None, (self._name, self._probe, self._waits))))
        elif self._waits and self._waits.split(",")[0] != self._shown:
            self._shown = self._waits.split(",")[0]
            self._console.print(f"{self._name}: {self._waits}", markup=False, highlight=False, soft_wrap=True)


def wait_line(model: ModelView) -> str:
    """What is waited for, and for how long about; empty for a model that is ready."""
    if model.phase is Phase.READY:
        return ""
    if model.expected_seconds is None:
        return f"{model.phase}, not known yet how long it takes"
    return f"{model.phase}, ready in about {format_duration(model.expected_seconds)}"


def table(results: Sequence[Result]) -> Table:
    """A row for each probe."""
    grid = bare_table()
    grid.add_column("MODEL", overflow="fold")
    for heading in ("REQUEST", "RESULT"):
        grid.add_column(heading, no_wrap=True)
    grid.add_column("SECONDS", justify="right", no_wrap=True)
    grid.add_column("WHAT CAME", overflow="fold")
    for result in results:
        word, style = {True: ("pass", "green"), False: ("FAIL", "bold red"), None: ("-", "dim")}[result.passed]
        took = "" if result.passed is None else f"{result.seconds:.2f}"
        grid.add_row(Text(result.model), Text(result.probe), Text(word, style), took, Text(result.detail))
    return grid
