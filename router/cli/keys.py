"""`hearth keys`: who may ask, where LiteLLM has no database."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from router.api.key_views import KeysView, KeyView, NewSecretView
from router.cli.options import AsJson, Url, access_to, run, seconds
from router.cli.server import Server
from router.cli.tables import bare_table
from router.quantities import format_duration
from router.scheduling.fairness import GREATEST_SHARE, HIGHEST_PRIORITY, SMALLEST_SHARE

app = typer.Typer(
    help="The keys of the house: who may ask, for what, and how much. Only the admin key may change them. Where "
    "LiteLLM has a database, its own keys count (/key/generate) and these commands end with exit code 2.",
    no_args_is_help=True,
    add_completion=False,
)

Name = Annotated[
    str, typer.Argument(help="The key's name: letters, digits, and . _ @ - between them.", show_default=False)
]


@app.command()
def create(
    name: Name,
    url: Url = None,
    models: Annotated[
        str, typer.Option("--models", metavar="A,B", help="Only these models; without it all.", show_default=False)
    ] = "",
    rpm: Annotated[int | None, typer.Option("--rpm", min=1, help="Requests a minute.")] = None,
    tpm: Annotated[int | None, typer.Option("--tpm", min=1, help="Tokens a minute, prompts included.")] = None,
    parallel: Annotated[
        int | None, typer.Option("--parallel", min=1, help="Requests at a time, those that wait included.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option("--budget", min=0, metavar="USD", help="What it may cost in all.")
    ] = None,
    expires: Annotated[
        float | None, typer.Option("--expires", parser=seconds, metavar="DURATION", help="Valid for 30d, say.")
    ] = None,
    priority: Annotated[
        int,
        typer.Option(
            "--priority",
            min=-HIGHEST_PRIORITY,
            max=HIGHEST_PRIORITY,
            help="Of its requests; each step doubles its part of the machine and makes it count as waiting longer.",
        ),
    ] = 0,
    share: Annotated[
        float,
        typer.Option(
            "--share", min=SMALLEST_SHARE, max=GREATEST_SHARE, help="Its part of the machine, where others have 1."
        ),
    ] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is shown now and never again."""
    given = [("name", name), ("priority", str(priority)), ("share", str(share))]
    only = [model.strip() for model in models.split(",") if model.strip()]
    given += [("models", model) for model in only]
    limits = {"rpm": rpm, "tpm": tpm, "parallel": parallel, "budget": budget, "life": expires}
    given += [(limit, str(value)) for limit, value in limits.items() if value is not None]

    async def make(server: Server) -> None:
        if only:
            _warn_of_unknown(only, await server.allowed())
        await _tell_secret(server.create_key(given), as_json)

    _with_server(url, make)


@app.command(name="list")
def list_keys(url: Url = None, as_json: AsJson = False) -> None:
    """All keys: their limits, what they have spent, and when they were last used."""
    _with_server(url, lambda server: _show(server.keys(), as_json))


@app.command()
def show(
    name: Annotated[
        str | None, typer.Argument(help="The key's name; without it the key that asks.", show_default=False)
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """One key: the named one, for admins, or the one that asks."""
    _with_server(url, lambda server: _show(server.keys(name) if name else server.own_key(), as_json))


@app.command()
def revoke(
    name: Name,
    url: Url = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget a key, with what it has spent. Requests that run are finished, those that wait are refused."""
    if not yes:
        typer.confirm(f"Revoke the key {name!r}? Whoever uses it is refused from then on.", abort=True, err=True)
    _with_server(url, lambda server: _say(server.revoke_key(name), f"{name}: it is refused from now on."))


@app.command()
def rotate(
    name: Name,
    url: Url = None,
    grace: Annotated[
        float,
        typer.Option(
            "--grace", parser=seconds, metavar="DURATION", help="How long the old key works still.", show_default="0s"
        ),
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """A new key of the same name, with its limits and what it has spent. It is shown now and never again."""
    _with_server(url, lambda server: _tell_secret(server.rotate_key(name, grace), as_json))


@app.command()
def block(name: Name, url: Url = None) -> None:
    """Refuse a key until it is unblocked."""
    _with_server(url, lambda server: _say(server.block_key(name, blocked=True), f"{name}: it is blocked."))


@app.command()
def unblock(name: Name, url: Url = None) -> None:
    """Let a blocked key be used again."""
    _with_server(url, lambda server: _say(server.block_key(name, blocked=False), f"{name}: it works again."))


def keys_table(view: KeysView) -> Table:
    """The keys with their limits and use."""
    table = bare_table()
    table.add_column("KEY", overflow="fold")
    for heading in ("ENDS", "STATE", "LAST USED"):
        table.add_column(heading, no_wrap=True)
    for heading in ("TOKENS", "SPENT"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("LIMITS", overflow="fold")
    for key in view.keys:
        state, style = _state(key, view.now)
        used = "" if key.last_used is None else f"{format_duration(max(0.0, view.now - key.last_used))} ago"
        table.add_row(
            Text(key.name),
            Text(f"…{key.fingerprint}"),
            Text(state, style),
            Text(used),
            Text(str(key.tokens or "")),
            Text(f"${key.spend:.4f}" if key.spend else ""),
            Text(_limits(key)),
        )
    return table


def _state(key: KeyView, now: float) -> tuple[str, str]:
    if key.expires is not None and key.expires <= now:
        return "expired", "dim"
    if key.blocked:
        return "blocked", "bold red"
    if key.limits.budget is not None and key.spend >= key.limits.budget:
        return "budget spent", "yellow"
    return ("valid" if key.expires is None else f"valid {format_duration(key.expires - now)}"), "green"


def _limits(key: KeyView) -> str:
    limits = key.limits
    parts = [
        f"models {', '.join(limits.models)}" if limits.models else "",
        f"{limits.rpm} requests/min" if limits.rpm is not None else "",
        f"{limits.tpm} tokens/min" if limits.tpm is not None else "",
        f"{limits.parallel} parallel" if limits.parallel is not None else "",
        f"${limits.budget:g}" if limits.budget is not None else "",
        f"priority {limits.priority}" if limits.priority else "",
        f"share {limits.share:g}" if limits.share != 1 else "",
    ]
    return "; ".join(filter(None, parts))


def _with_server(url: str | None, ask: Callable[[Server], Coroutine[Any, Any, None]]) -> None:
    access = access_to(url)

    async def work() -> None:
        async with Server(access) as server:
            await ask(server)

    run(work())


async def _show(question: Coroutine[Any, Any, KeysView], as_json: bool) -> None:
    view = await question
    if as_json:
        typer.echo(json.dumps(view.model_dump(mode="json"), indent=2))
    elif view.keys:
        Console(soft_wrap=True).print(keys_table(view))
    else:
        typer.echo("There are no keys but the admin key. `hearth keys create NAME` makes one.")


def _warn_of_unknown(names: Sequence[str], known: Sequence[str]) -> None:
    """A key may name what comes later, and what there never is: a key that asks for metrics only."""
    for name in names:
        if name not in known and "*" not in name:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            typer.echo(f"No model is called {name!r} here{hint} The key is made all the same.", err=True)


async def _tell_secret(question: Coroutine[Any, Any, NewSecretView], as_json: bool) -> None:
    made = await question
    if as_json:
        typer.echo(json.dumps(made.model_dump(mode="json"), indent=2))
        return
    typer.echo(f"The key of {made.name}. Only a hash of it is kept, so it is shown this once:", err=True)
    typer.echo(made.key)


async def _say(question: Coroutine[Any, Any, None], done: str) -> None:
    await question
    typer.echo(done)
