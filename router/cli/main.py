"""The commands. Exit codes: 0 done, 1 not done (one line on stderr says why), 2 wrong usage or configuration."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from router import config as configuration
from router.cli import catalogue, client, fetch, keys, tables
from router.cli.add import add
from router.cli.check import check
from router.cli.inspect import inspect
from router.cli.live_status import watch_status
from router.cli.options import CONFIG_FILE, AsJson, Model, Url, access_to, run, seconds
from router.cli.server import Access, Server, ServerError
from router.cli.simulate import simulate
from router.cli.smoke import smoke
from router.cli.soak import soak
from router.cli.up import run_up
from router.cli.waiting import act_and_wait
from router.errors import ConfigError
from router.supervisor.parts import Listening

app = typer.Typer(
    name="hearth",
    help="One GPU box, many models, one OpenAI-compatible address.\n\n"
    "The key is read from HEARTH_API_KEY, else LITELLM_MASTER_KEY, else from the file of the `hearth up` that runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(client.app, name="client")
app.add_typer(fetch.app, name="fetch")
app.add_typer(keys.app, name="keys")

Wait = Annotated[bool, typer.Option("--wait", help="Return when it is done, or has failed.")]


Limit = Annotated[
    float,
    typer.Option(
        "--timeout",
        parser=seconds,
        metavar="DURATION",
        show_default="1h",
        help="With --wait: give up after this long.",
    ),
]


def _out() -> Console:
    return Console(soft_wrap=True)


@app.command()
def up(
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="LiteLLM's configuration file.")],
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="The gateway's port.")] = 8009,
    host: Annotated[str, typer.Option("--host", help="The address that the gateway listens on.")] = "127.0.0.1",
    state_dir: Annotated[
        Path | None,
        typer.Option("--state-dir", metavar="DIR", help="Key, logs and data; without it .hearth beside FILE."),
    ] = None,
) -> None:
    """Run the whole server here: a private Redis, the router and the gateway. Ctrl-C stops all of it."""
    raise typer.Exit(run_up(config, Listening(host, port), state_dir, Console(), Console(stderr=True)))


app.command()(check)
app.command()(add)
app.command()(inspect)
app.command()(simulate)
app.command()(smoke)
app.command()(soak)


@app.command()
def status(
    url: Url = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep showing it, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """What the models do, who runs and who waits."""
    if watch and as_json:
        raise typer.BadParameter("--watch and --json do not go together; follow the events instead")
    access = access_to(url)
    if watch:
        run(watch_status(access, Console()), interrupted=0)
        return

    async def show() -> None:
        async with Server(access) as server:
            models, requests = await server.models(), await server.requests()
        if as_json:
            typer.echo(json.dumps(models.model_dump(mode="json") | requests.model_dump(mode="json"), indent=2))
        else:
            _out().print(tables.status(models, requests, models.now))

    run(show())


@app.command()
def models(
    url: Url = None,
    family: Annotated[
        str | None, typer.Option("--family", help="Only these, such as qwen3.6, or qwen for all.")
    ] = None,
    memory: Annotated[bool, typer.Option("--memory", help="What they declare and really take, by GPU.")] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Read this file and ask no server; what they do stays empty."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The models: what they are good for, how far they can be relied on, and what they do now."""
    if memory:
        if family is not None or config is not None:
            raise typer.BadParameter("--memory is what the router has measured; it goes with neither of the others")
        run(_show_memory(access_to(url), as_json))
        return
    entries = _entries(url, config)
    if family is not None:
        known = catalogue.families(entries)
        entries = catalogue.of_family(entries, family)
        if not entries:
            typer.echo(f"There is no family {family!r}; there are: {', '.join(known) or 'none'}.", err=True)
            raise typer.Exit(1)
    if as_json:
        typer.echo(json.dumps([entry.as_json() for entry in entries], indent=2))
    else:
        out, grid = _out(), catalogue.table(entries)
        wide = out.measure(grid, options=out.options.update(width=1000)).maximum
        Console(soft_wrap=True, width=max(out.width, wide)).print(
            grid
        )  # a narrow terminal wraps it and cuts nothing off
        if said := catalogue.notes(entries):
            out.print(said)


async def _show_memory(access: Access, as_json: bool) -> None:
    async with Server(access) as server:
        view = await server.models()
    shown = view.model_dump(mode="json")
    if as_json:
        typer.echo(json.dumps({key: shown[key] for key in ("models", "gpus")}, indent=2))
    else:
        _out().print(tables.memory_report(view))


def _entries(url: str | None, file: Path | None) -> list[catalogue.Entry]:
    """The catalogue of the server; of `file` if that is named, or of the configuration here if no server answers."""
    if file is None:
        access = access_to(url)

        async def ask() -> list[catalogue.Entry]:
            async with Server(access) as server:
                return catalogue.of_server(await server.catalogue(), await server.models())

        try:
            return asyncio.run(ask())
        except ServerError as error:
            file = Path(os.environ.get("HEARTH_CONFIG", CONFIG_FILE))
            if url is not None or not file.exists():
                typer.echo(str(error), err=True)
                raise typer.Exit(1) from error
            typer.echo(f"{error} So this is what {file} says.", err=True)
    try:
        return catalogue.of_config(configuration.load(file))
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error


@app.command()
def wake(model: Model, url: Url = None, wait: Wait = False, timeout: Limit = 3600.0) -> None:
    """Start a model without a request."""
    _act(access_to(url), model, "wake", wait=wait, timeout=timeout)


@app.command()
def sleep(
    model: Model,
    url: Url = None,
    force: Annotated[bool, typer.Option("--force", help="Do not wait for running requests: cut them off.")] = False,
    wait: Wait = False,
    timeout: Limit = 3600.0,
) -> None:
    """Stop a model as soon as its running requests are finished."""
    _act(access_to(url), model, "sleep", force=force, wait=wait, timeout=timeout)


@app.command()
def touch(model: Model, url: Url = None) -> None:
    """Let the model's idle time begin again."""
    _act(access_to(url), model, "touch")


@app.command()
def pin(model: Model, url: Url = None) -> None:
    """Never stop the model for idleness."""
    _act(access_to(url), model, "pin")


@app.command()
def unpin(model: Model, url: Url = None) -> None:
    """Let the model's idle timeout count again."""
    _act(access_to(url), model, "unpin")


@app.command()
def logs(
    model: Model,
    url: Url = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=5000, help="How many of the last lines.")] = 100,
) -> None:
    """What the model's engine wrote last."""
    access = access_to(url)

    async def show() -> None:
        async with Server(access) as server:
            typer.echo(await server.logs(model, lines), nl=False)

    run(show())


@app.command()
def events(
    url: Url = None,
    follow: Annotated[bool, typer.Option(help="Go on with what happens from now on, until Ctrl-C.")] = True,
    recent: Annotated[int, typer.Option("--recent", min=0, max=10_000, help="How many earlier ones to show.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """What happens to the models."""
    access, out = access_to(url), _out()

    async def show() -> None:
        async with Server(access) as server:
            async for event in server.events(recent=recent, follow=follow):
                if as_json:
                    typer.echo(event.model_dump_json())
                else:
                    out.print(tables.event_line(event))
        if follow:
            raise ServerError("The server has ended the stream.")

    run(show(), interrupted=0)


@app.command()
def history(
    url: Url = None,
    since: Annotated[
        float | None,
        typer.Option("--since", parser=seconds, metavar="DURATION", help="Only the last 7d, say; else all there is."),
    ] = None,
) -> None:
    """The requests that ended, a JSON object a line, for `hearth simulate --replay`. No prompts, keys as hashes."""
    access = access_to(url)

    async def show() -> None:
        async with Server(access) as server:
            async for line in server.history(since):
                typer.echo(line)

    run(show())


def _act(
    access: Access, model: str, action: str, *, force: bool = False, wait: bool = False, timeout: float = 0.0
) -> None:
    async def ask() -> None:
        async with Server(access) as server:
            if not wait:
                typer.echo(f"{model}: {(await server.act(model, action, force=force)).message}")
                return
            typer.echo(await _followed(server, model, action, force=force, limit=timeout))

    run(ask())


async def _followed(server: Server, model: str, action: str, *, force: bool, limit: float) -> str:
    """`act_and_wait` with a spinner on a terminal, and a line for each change elsewhere."""
    err = Console(stderr=True)
    if not err.is_terminal:

        def show_line(line: str) -> None:
            typer.echo(line, err=True)

        return await act_and_wait(server, model, action, force=force, limit=limit, show=show_line)
    began = time.monotonic()
    with err.status(f"{model}: {action} asked for") as spinner:

        def turn(line: str) -> None:
            spinner.update(f"{line} ({time.monotonic() - began:.0f} s)")

        return await act_and_wait(server, model, action, force=force, limit=limit, show=turn)


if __name__ == "__main__":
    app()
