"""The commands. Exit codes: 0 done, 1 not done (one line on stderr says why), 2 wrong usage or configuration."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from router.cli import tables
from router.cli.live_status import watch_status
from router.cli.server import Access, Server, ServerError, find_access
from router.cli.up import run_up
from router.cli.waiting import act_and_wait
from router.quantities import parse_duration
from router.simulator.command import main as run_simulation
from router.supervisor.parts import Listening

app = typer.Typer(
    name="hearth",
    help="One GPU box, many models, one OpenAI-compatible address.\n\n"
    "The key is read from HEARTH_API_KEY, else LITELLM_MASTER_KEY, else from the file of the `hearth up` that runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="HEARTH_URL", help="The server; without it the one that runs here, else port 8009."),
]
Model = Annotated[str, typer.Argument(help="The model's name.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the server's own objects.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return when it is done, or has failed.")]


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


Limit = Annotated[
    float,
    typer.Option(
        "--timeout",
        parser=_seconds,
        metavar="DURATION",
        show_default="1h",
        help="With --wait: give up after this long.",
    ),
]


def _out() -> Console:
    return Console(soft_wrap=True)


def _run(work: Coroutine[Any, Any, None], *, interrupted: int = 130) -> None:
    """Run one command; its errors become one line and exit code 1. interrupted: the exit code after Ctrl-C."""
    try:
        asyncio.run(work)
    except ServerError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(interrupted) from error


def _access(url: str | None) -> Access:
    try:
        return find_access(url)
    except ServerError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


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


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def simulate(context: typer.Context) -> None:
    """Compare scheduling policies on a simulated GPU; `hearth simulate --help` has the options."""
    raise typer.Exit(run_simulation(context.args))


@app.command()
def status(
    url: Url = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep showing it, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """What the models do, who runs and who waits."""
    if watch and as_json:
        raise typer.BadParameter("--watch and --json do not go together; follow the events instead")
    access = _access(url)
    if watch:
        _run(watch_status(access, Console()), interrupted=0)
        return

    async def show() -> None:
        async with Server(access) as server:
            models, requests = await server.models(), await server.requests()
        if as_json:
            typer.echo(json.dumps(models.model_dump(mode="json") | requests.model_dump(mode="json"), indent=2))
        else:
            _out().print(tables.status(models, requests, models.now))

    _run(show())


@app.command()
def models(url: Url = None, as_json: AsJson = False) -> None:
    """The models with a lifecycle, their settings, and what was learned of them."""
    access = _access(url)

    async def show() -> None:
        async with Server(access) as server:
            view = await server.models()
        if as_json:
            typer.echo(json.dumps([model.model_dump(mode="json") for model in view.models], indent=2))
        else:
            _out().print(tables.settings_table(view.models))

    _run(show())


@app.command()
def wake(model: Model, url: Url = None, wait: Wait = False, timeout: Limit = 3600.0) -> None:
    """Start a model without a request."""
    _act(_access(url), model, "wake", wait=wait, timeout=timeout)


@app.command()
def sleep(
    model: Model,
    url: Url = None,
    force: Annotated[bool, typer.Option("--force", help="Do not wait for running requests: cut them off.")] = False,
    wait: Wait = False,
    timeout: Limit = 3600.0,
) -> None:
    """Stop a model as soon as its running requests are finished."""
    _act(_access(url), model, "sleep", force=force, wait=wait, timeout=timeout)


@app.command()
def touch(model: Model, url: Url = None) -> None:
    """Let the model's idle time begin again."""
    _act(_access(url), model, "touch")


@app.command()
def pin(model: Model, url: Url = None) -> None:
    """Never stop the model for idleness."""
    _act(_access(url), model, "pin")


@app.command()
def unpin(model: Model, url: Url = None) -> None:
    """Let the model's idle timeout count again."""
    _act(_access(url), model, "unpin")


@app.command()
def logs(
    model: Model,
    url: Url = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=5000, help="How many of the last lines.")] = 100,
) -> None:
    """What the model's engine wrote last."""
    access = _access(url)

    async def show() -> None:
        async with Server(access) as server:
            typer.echo(await server.logs(model, lines), nl=False)

    _run(show())


@app.command()
def events(
    url: Url = None,
    follow: Annotated[bool, typer.Option(help="Go on with what happens from now on, until Ctrl-C.")] = True,
    recent: Annotated[int, typer.Option("--recent", min=0, max=10_000, help="How many earlier ones to show.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """What happens to the models."""
    access, out = _access(url), _out()

    async def show() -> None:
        async with Server(access) as server:
            async for event in server.events(recent=recent, follow=follow):
                if as_json:
                    typer.echo(event.model_dump_json())
                else:
                    out.print(tables.event_line(event))
        if follow:
            raise ServerError("The server has ended the stream.")

    _run(show(), interrupted=0)


def _act(
    access: Access, model: str, action: str, *, force: bool = False, wait: bool = False, timeout: float = 0.0
) -> None:
    async def ask() -> None:
        async with Server(access) as server:
            if not wait:
                typer.echo(f"{model}: {(await server.act(model, action, force=force)).message}")
                return
            typer.echo(await _followed(server, model, action, force=force, limit=timeout))

    _run(ask())


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
