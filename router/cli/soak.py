"""`hearth soak`: how long a context a model really holds."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from router.catalogue import Card
from router.cli.options import Model, Url, access_to, run, seconds
from router.cli.server import Access, Server, ServerError
from router.cli.smoke import card_of
from router.cli.tables import bare_table
from router.trying import report
from router.trying.asking import Asker
from router.trying.ceiling import Outcome, Plan, Tier, parse_sizes
from router.trying.report import Subject
from router.trying.soak import Load, Soak

#: Taken for the most where neither the configuration nor --tiers says how far to go.
_UNPROMISED = 131072


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return parse_sizes(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--tiers") from error


def soak(
    model: Model,
    url: Url = None,
    tiers: Annotated[
        str | None,
        typer.Option(
            "--tiers",
            metavar="4k,8k,...",
            help="Exactly these prompts (k: 1024 tokens), up to the first that fails. Without it a search: doubled "
            "until one fails, then halved, up to the context that the configuration promises.",
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, max=256, help="Requests at once.")] = 1,
    output_tokens: Annotated[int, typer.Option("--output-tokens", min=1, help="Most tokens of each answer.")] = 64,
    needle: Annotated[
        bool, typer.Option("--needle", help="An answer must name the number that its prompt hides in its middle.")
    ] = False,
    directory: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", help="Write the report there, as JSON and Markdown.")
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout", parser=seconds, metavar="DURATION", show_default="1h", help="Longest silence of one request."
        ),
    ] = 3600.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Find the context that a model really holds, with so many requests at once.

    A size passes when all its requests are answered, and the engine counted about as many tokens as were meant. Every
    prompt is a new one, so nothing is answered from an engine's cache. Ctrl-C leaves what was found so far.

    Exit code 1 when no size passed, or one of --tiers failed.
    """
    load = Load(concurrency, output_tokens, needle)
    sizes = () if tiers is None else _sizes(tiers)
    run(_soak(access_to(url), model, sizes, load, directory, timeout, as_json=as_json))


async def _soak(
    access: Access,
    model: str,
    sizes: tuple[int, ...],
    load: Load,
    directory: Path | None,
    limit: float,
    *,
    as_json: bool,
) -> None:
    async with Server(access) as server:
        views = {view.name: view for view in (await server.models()).models}
        cards = {card.name: card for card in (await server.catalogue()).cards}
        card = await card_of(server, model, cards, views)
    if directory is not None:
        _require_writable(directory)
    subject = Subject(model, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), card.context, load)
    plan = _plan(sizes, card, load)
    async with Asker(access.url, access.key, limit) as asker:
        with _drawing(model, len(sizes)) as bar:
            soak = Soak(asker, model, load, doing=bar.doing)

            def told(tier: Tier) -> None:
                bar.told(tier)
                if directory is not None:
                    _write(directory, subject, soak.outcome)

            soak.told = told
            try:
                await soak.run(plan)
            finally:
                bar.end()
                _show(subject, soak.outcome, directory, as_json=as_json)
    if soak.outcome.ceiling is None or (sizes and not all(tier.passed for tier in soak.outcome.tiers)):
        raise typer.Exit(1)


def _plan(sizes: tuple[int, ...], card: Card, load: Load) -> Plan:
    """Raises ServerError when the answers leave no room for a prompt.

    The answers are left twice their room: of what the context has left the gateway's rules keep up to a half for what
    they cannot count of a prompt (the chat template), and a shortened answer would look like a full context.
    """
    if card.output is not None and load.output_tokens > card.output:
        raise ServerError(f"{card.name} gives answers of up to {card.output:,} tokens: give a smaller --output-tokens.")
    most = (card.context or _UNPROMISED) - 2 * load.output_tokens
    if most < 1:
        raise ServerError(f"Answers of {load.output_tokens:,} tokens leave no room in a context of {card.context:,}.")
    return Plan(sizes, first=min(4096, max(1, most // 4)), most=most, step=max(64, most // 64))


def _show(subject: Subject, outcome: Outcome, directory: Path | None, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report.as_json(subject, outcome), indent=2))
    elif outcome.tiers:
        Console().print(_table(outcome))
        for line in (*report.reasons(outcome), report.verdict(subject, outcome)):
            typer.echo(line)
    if directory is not None:
        typer.echo(f"Report: {_write(directory, subject, outcome)}", err=True)


def _require_writable(directory: Path) -> None:
    """Said before hours of asking, not after. Raises ServerError."""
    with _told(directory):
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()


def _write(directory: Path, subject: Subject, outcome: Outcome) -> Path:
    with _told(directory):
        return report.write(directory, subject, outcome)


@contextlib.contextmanager
def _told(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ServerError(f"The report cannot be written to {directory}: {error.strerror}.") from error


def _table(outcome: Outcome) -> Table:
    grid = bare_table()
    for heading in report.headings():
        grid.add_column(heading.upper(), justify="right", overflow="fold")
    for tier in outcome.tiers:
        grid.add_row(*report.row(tier), style="" if tier.passed else "bold red")
    return grid


class _Shown(Protocol):
    def doing(self, what: str) -> None: ...

    def told(self, tier: Tier) -> None: ...

    def end(self) -> None: ...


class _Lines:
    """Without a terminal: a line for each thing that is done."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def doing(self, what: str) -> None:
        self._console.print(what, markup=False, highlight=False, soft_wrap=True)

    def told(self, tier: Tier) -> None:
        outcome = "pass" if tier.passed else f"FAIL, {tier.reason}"
        self.doing(f"{tier.target:,} tokens: {outcome} ({tier.seconds:.1f} s)")

    def end(self) -> None:
        """Nothing."""


class _Bar(_Lines):
    """On a terminal: a bar, whose end is known when the sizes are, and a line for each size above it."""

    def __init__(self, console: Console, model: str, total: int) -> None:
        super().__init__(console)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[model]}: {task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._progress.add_task("", total=total or None, model=model)
        self._progress.start()

    def doing(self, what: str) -> None:
        self._progress.update(self._task, description=what)

    def told(self, tier: Tier) -> None:
        outcome = "pass" if tier.passed else f"FAIL, {tier.reason}"
        line = Text(f"{tier.target:,} tokens: {outcome} ({tier.seconds:.1f} s)", "" if tier.passed else "bold red")
        self._progress.console.print(line, soft_wrap=True)
        self._progress.advance(self._task)

    def end(self) -> None:
        self._progress.stop()


@contextlib.contextmanager
def _drawing(model: str, total: int) -> Iterator[_Shown]:
    console = Console(stderr=True)
    shown = _Bar(console, model, total) if console.is_terminal else _Lines(console)
    try:
        yield shown
    finally:
        shown.end()
