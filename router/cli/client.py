"""`hearth client`: a program's settings for this server, for the models that the caller's key may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from router.cli.options import Url, access_to, run
from router.cli.server import Access, Server, ServerError
from router.clients import cline as cline_files
from router.clients import opencode as opencode_files
from router.clients import saved, variables
from router.clients.offer import Client, Offer, offer
from router.clients.saved import SavedFile
from router.settings import Role

app = typer.Typer(
    help="Settings for a program: the models that your key may use, with their limits and abilities. They are printed; "
    "--write puts them where the program looks, beside a copy of what was there.",
    no_args_is_help=True,
    add_completion=False,
)

Address = Annotated[
    str | None,
    typer.Option("--address", metavar="URL", help="The server as the program sees it, if that is not --url."),
]
Default = Annotated[
    str | None, typer.Option("--model", help="The model to begin with; without it one that is good for it.")
]
Write = Annotated[bool, typer.Option("--write", help="Write the files instead of printing them.")]

#: What is printed in place of a key.
_HIDDEN = "YOUR-KEY"


@app.command()
def opencode(url: Url = None, address: Address = None, model: Default = None, write: Write = False) -> None:
    """opencode.json for OpenCode. It reads the key from HEARTH_API_KEY when it starts."""
    access = access_to(url)
    path = opencode_files.config_path(os.environ, Path.home())

    def files(chosen: Offer) -> list[SavedFile]:
        return opencode_files.files(chosen, _address(access, address), path, saved.present(path) if write else None)

    run(_files(access, Client.OPENCODE, model, files, write=write))


@app.command()
def cline(url: Url = None, address: Address = None, model: Default = None, write: Write = False) -> None:
    """Cline's settings. --write stores the key in providers.json, readable by you alone, as Cline itself does."""
    access = access_to(url)
    directory = cline_files.settings_directory(os.environ, Path.home())

    def files(chosen: Offer) -> list[SavedFile]:
        key = _own_key(access) if write else _HIDDEN
        names = (cline_files.ACCOUNTS, cline_files.SETTINGS)
        present = {name: saved.present(directory / name) if write else None for name in names}
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return cline_files.files(chosen, _address(access, address), key, directory, present, now)

    run(_files(access, Client.CLINE, model, files, write=write))


@app.command(name="open-webui")
def open_webui(url: Url = None, address: Address = None, model: Default = None) -> None:
    """Environment of Open WebUI's container, for its Compose file."""
    access = access_to(url)
    run(_lines(access, Client.OPEN_WEBUI, model, lambda it: variables.open_webui(it, _address(access, address))))


@app.command()
def env(url: Url = None, address: Address = None, model: Default = None) -> None:
    """Shell variables for OpenAI's and Anthropic's SDKs: `eval "$(hearth client env)"`."""
    access = access_to(url)
    run(_lines(access, Client.SDK, model, lambda it: variables.sdk(it, _address(access, address))))


async def _files(
    access: Access, client: Client, model: str | None, files: Callable[[Offer], list[SavedFile]], *, write: bool
) -> None:
    for file in files(await _offer(access, client, model)):
        if not write:
            typer.echo(f"# {file.path}", err=True)
            typer.echo(file.text, nl=False)
            continue
        copy = saved.write(file)
        typer.echo(f"{file.path}" + (f" (what was there: {copy.name})" if copy else ""), err=True)


async def _lines(access: Access, client: Client, model: str | None, lines: Callable[[Offer], str]) -> None:
    typer.echo(lines(await _offer(access, client, model)), nl=False)


async def _offer(access: Access, client: Client, model: str | None) -> Offer:
    """What the client is offered; stderr says what is kept from it, and what it should know."""
    async with Server(access) as server:
        allowed, cards, views = await server.allowed(), (await server.catalogue()).cards, (await server.models()).models
    utilities = {view.name for view in views if view.role == Role.UTILITY}
    chosen = offer(client, allowed, cards, utilities, model)
    for name, reason in chosen.left_out.items():
        typer.echo(f"{name} is left out: {reason}", err=True)
    for offered in chosen.models:
        for warning in offered.warnings:
            typer.echo(f"{offered.name}: {warning}", err=True)
    return chosen


def _address(access: Access, address: str | None) -> str:
    return (address or access.url).rstrip("/")


def _own_key(access: Access) -> str:
    """The key that is stored. Raises ServerError for the admin's: a program needs none that may do everything."""
    if access.key is None or access.key_origin != "HEARTH_API_KEY":
        raise ServerError(
            "The key would be stored in a file, and the admin key does not belong there: make one of its own (hearth "
            "keys create NAME) and set HEARTH_API_KEY to it."
        )
    return access.key
