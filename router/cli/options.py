"""What several commands take: the server, durations, and how their errors end them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from router.cli.server import Access, NotServedHere, find_access
from router.errors import HearthError
from router.quantities import parse_duration

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="HEARTH_URL", help="The server; without it the one that runs here, else port 8009."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the server's own objects.")]
ConfigFile = Annotated[
    Path, typer.Option("--config", metavar="FILE", envvar="HEARTH_CONFIG", help="LiteLLM's configuration file.")
]
#: Where it is when nobody says.
CONFIG_FILE = Path("litellm_config.yaml")
Model = Annotated[str, typer.Argument(help="The model's name.", show_default=False)]


def seconds(text: str) -> float:
    """A duration such as 90s or 15m. Raises typer.BadParameter."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def access_to(url: str | None) -> Access:
    """The server and its key; exit code 1 when the key cannot be read."""
    try:
        return find_access(url)
    except HearthError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


def run(work: Coroutine[Any, Any, None], *, interrupted: int = 130) -> None:
    """Run one command; its errors become one line and exit code 1. interrupted: the exit code after Ctrl-C."""
    try:
        asyncio.run(work)
    except HearthError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2 if isinstance(error, NotServedHere) else 1) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(interrupted) from error
