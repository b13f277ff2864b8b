"""`hearth fetch`: what engines need from outside, fetched and checked before they start.

`hearth fetch tokenizers` is a command of its own. Any other word after `fetch` is a model's name: `hearth fetch NAME`
needs no second word, and a model called `tokenizers` is reached by
`hearth fetch model tokenizers`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from typer.core import TyperGroup

from router import config as configuration
from router.cli.options import CONFIG_FILE, ConfigFile
from router.errors import ConfigError, FetchFailed
from router.fetch import tokenizers as published
from router.fetch.files import PublishedFile, fetch, http_client
from router.fetch.weights import Hub, Snapshot, download, look, require_room
from router.quantities import format_size


class FetchGroup(TyperGroup):
    """A group in which a word that is no command is a model's name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        model = self.get_command(ctx, "model")
        if args and model is not None and self.get_command(ctx, args[0]) is None:
            return model.name, model, args
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=FetchGroup,
    help="Fetch what engines need, and check it: a model's weights, or tokenizers.",
    no_args_is_help=True,
    add_completion=False,
)

Weights = Annotated[
    str,
    typer.Option(
        "--weights",
        envvar="HEARTH_WEIGHTS",
        metavar="DIR",
        help="The directory that engines see as /models.",
        show_default=False,
    ),
]


@app.command()
def tokenizers(
    weights: Weights = "",
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory", metavar="DIR", help="Where they go; without it tiktoken_encodings below --weights."
        ),
    ] = None,
    source: Annotated[
        str,
        typer.Option("--from", envvar="HEARTH_TOKENIZERS_FROM", metavar="URL", help="A copy of what OpenAI publishes."),
    ] = published.PUBLISHER,
) -> None:
    """The tiktoken encodings that GPT-OSS engines read when they start."""
    into = directory or _below(weights)
    try:
        _fetch_all(published.encodings(source), into, Console(stderr=True))
    except FetchFailed as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(130) from error


@app.command()
def model(
    name: Annotated[
        str, typer.Argument(help="A model of the configuration, or a repository such as org/name.", show_default=False)
    ],
    weights: Weights = "",
    hub: Annotated[
        str,
        typer.Option(
            "--hub",
            envvar="HEARTH_HUB",
            metavar="DIR",
            help="Engines' own Hugging Face cache (its folder hub): the configuration and the tokenizer go there too.",
            show_default=False,
        ),
    ] = "",
    revision: Annotated[str, typer.Option("--revision", help="A branch, a tag or a commit.")] = "main",
    config: ConfigFile = CONFIG_FILE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what there is to fetch, and fetch nothing.")] = False,
) -> None:
    """A model's weights from Hugging Face, or from HF_ENDPOINT. HF_TOKEN opens what is gated."""
    into = _directory(weights, "--weights DIR (HEARTH_WEIGHTS)", f"docker compose run --rm fetch {name}")
    publisher = Hub(os.environ.get("HF_ENDPOINT") or None, os.environ.get("HF_TOKEN") or None)
    try:
        repository = _repository(name, config)
        _fetch_model(repository, revision, into, publisher, weights=True, dry_run=dry_run)
        if hub:
            _fetch_model(repository, revision, Path(hub).expanduser(), publisher, weights=False, dry_run=dry_run)
    except (FetchFailed, ConfigError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(130) from error


def _repository(name: str, config: Path) -> str:
    """The repository of a model of the configuration; else `name` itself, if it is one's. Raises ConfigError and
    FetchFailed."""
    try:
        cards = configuration.load(config).cards
    except ConfigError:
        if "/" in name:
            return name
        raise
    if name not in cards:
        if "/" in name:
            return name
        raise FetchFailed(f"{config} has no model {name!r}; `hearth models` lists them, and org/name is a repository.")
    weights = cards[name].catalogue.weights
    if weights is None:
        raise FetchFailed(
            f"{config} does not say where the weights of {name} are: set catalogue.weights, or name them."
        )
    return weights


def _fetch_model(repository: str, revision: str, into: Path, publisher: Hub, *, weights: bool, dry_run: bool) -> None:
    console = Console(stderr=True)
    snapshot = look(repository, revision, into, publisher, weights=weights)
    told = f"{repository} at {snapshot.commit[:12]}: {len(snapshot.files)} files, {format_size(snapshot.size)}"
    if dry_run:
        for file in snapshot.files:
            typer.echo(f"{file.size:>16,}  {'there' if file.present else 'to fetch':<8}  {file.name}")
    if not dry_run and snapshot.missing:
        require_room(snapshot, into)
        with _Bars(console) as bars:
            bars.tell(f"{told}, of which {format_size(snapshot.missing)} to fetch")
            download(snapshot, into, publisher, bars.sum(repository, snapshot))
    elif not dry_run:
        download(snapshot, into, publisher, lambda _: None)  # notes which commit the revision is
    left = f"{format_size(snapshot.missing)} to fetch" if dry_run else "all there"
    typer.echo(f"{told}; {left}, in {into}")


def _below(weights: str) -> Path:
    ways = "--directory DIR, or --weights DIR (HEARTH_WEIGHTS)"
    return _directory(weights, ways, "docker compose run --rm fetch tokenizers") / published.DIRECTORY


def _directory(weights: str, ways: str, into_volume: str) -> Path:
    """The directory of the weights. ways: how it can be said. into_volume: the command for a Docker volume.
    Raises BadParameter when `weights` is no directory of this machine."""
    if not weights.startswith(("/", "./", "../", "~/")):
        named = f"{weights!r} is the name of a Docker volume, which this command cannot see into" if weights else ""
        raise typer.BadParameter(
            "; ".join(filter(None, [named, f"say where they go: {ways}"]))
            + f". Into the volume of docker-compose.yml: {into_volume}"
        )
    return Path(weights).expanduser()


def _fetch_all(files: tuple[PublishedFile, ...], into: Path, console: Console) -> None:
    with http_client() as client, _Bars(console) as bars:
        for file in files:
            outcome = fetch(file, into, client, bars.begin(file))
            bars.tell(f"{file.name}: {outcome.value}")
        bars.tell(f"All in {into}")


class _Bars:
    """A bar for each file on a terminal; elsewhere one line for each that is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=console,
        )

    def __enter__(self) -> _Bars:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def begin(self, file: PublishedFile) -> _Bar:
        return _Bar(self, self._progress, self._progress.add_task(file.name, total=file.size))

    def sum(self, name: str, snapshot: Snapshot) -> Callable[[int], None]:
        """One bar for all files of a snapshot; what it returns takes bytes as they come."""
        task = self._progress.add_task(name, total=snapshot.missing)
        return lambda size: self._progress.advance(task, size)

    def tell(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Bar:
    def __init__(self, bars: _Bars, progress: Progress, task: TaskID) -> None:
        self._bars, self._progress, self._task = bars, progress, task

    def at(self, size: int) -> None:
        self._progress.update(self._task, completed=size)

    def again(self, why: str) -> None:
        self._bars.tell(f"{why}; trying again")
