"""`hearth simulate`: its options, and what a running server has learned of its models."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from router.cli.options import CONFIG_FILE, ConfigFile
from router.cli.server import Server, ServerError, find_access
from router.simulator.command import POLICIES, Knowledge, Options, run
from router.simulator.fleet import Learned


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise typer.BadParameter(f"{text!r} is not a number above 0")
    return value


def simulate(
    models: Annotated[
        Path | None,
        typer.Option(
            "--models",
            metavar="FILE",
            help="YAML list of models on one GPU: name, load_seconds, and if wanted unload_seconds, prefill_tps, "
            "decode_tps, concurrency, share, memory (1 is all of the GPU). Without it the models of --config, "
            "with the costs that the server has learned.",
        ),
    ] = None,
    config: ConfigFile = CONFIG_FILE,
    url: Annotated[
        str | None, typer.Option("--url", envvar="HEARTH_URL", help="The server that knows what its models cost.")
    ] = None,
    sessions_per_hour: Annotated[
        float | None, typer.Option("--sessions-per-hour", parser=_positive, metavar="X", help="Agent sessions.")
    ] = None,
    arrivals_per_minute: Annotated[
        float | None,
        typer.Option("--arrivals-per-minute", parser=_positive, metavar="X", help="Single requests, at random."),
    ] = None,
    replay: Annotated[
        str | None,
        typer.Option("--replay", metavar="FILE", help="What `hearth history` has written; - is standard input."),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="CSV",
            help="Lengths of requests, in columns ContextTokens and GeneratedTokens. Without it a few made-up ones.",
        ),
    ] = None,
    steps: Annotated[
        float | None,
        typer.Option(
            "--steps", parser=_positive, metavar="X", show_default="30", help="Mean number of requests of a session."
        ),
    ] = None,
    think: Annotated[
        float | None,
        typer.Option("--think", min=0.0, max=1e6, show_default="4", help="Mean pause between them, in seconds."),
    ] = None,
    row: Annotated[
        float | None,
        typer.Option(
            "--run", min=1.0, show_default="1", help="Mean number of single requests in a row for the same model."
        ),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(
            "--hours", parser=_positive, metavar="X", show_default="24, or all of a replay", help="Simulated time."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same workload.")] = 1,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", help=f"One of {', '.join(POLICIES)}; may be repeated.", show_default="all"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of objects.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw what each model does, policy by policy.")
    ] = None,
) -> None:
    """Compare scheduling policies on a simulated box: the real scheduler against others, on the same workload."""
    options = Options(
        models=models,
        config=config,
        sessions_per_hour=sessions_per_hour,
        arrivals_per_minute=arrivals_per_minute,
        replay=replay,
        trace=trace,
        steps=steps,
        think=think,
        run=row,
        hours=hours,
        seed=seed,
        policies=policy or [],
        json=as_json,
        plot=plot,
    )
    raise typer.Exit(run(options, lambda: _ask(url), Console(soft_wrap=True), Console(stderr=True)))


def _ask(url: str | None) -> Knowledge:
    """What the server has learned; nothing is no fault, since the costs can be assumed."""

    async def look() -> Knowledge:
        access = find_access(url)
        async with Server(access) as server:
            views = (await server.models()).models
        learned = {view.name: Learned(view.load_seconds, view.unload_seconds, view.service_seconds) for view in views}
        return Knowledge(learned, access.url)

    try:
        return asyncio.run(look())
    except ServerError as error:
        return Knowledge({}, trouble=str(error).split(". ")[0].rstrip("."))
