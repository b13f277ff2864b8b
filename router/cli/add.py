"""`hearth add`: a new model, from Hugging Face, a directory or a container, into the files of this box."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.syntax import Syntax

from router import config as configuration
from router.adding import files, plan, source
from router.adding.checkpoint import Checkpoint
from router.adding.files import Change
from router.adding.plan import Base, Choice, Plan, Room
from router.check.image_facts import ENGINE_FLAGS, read_facts
from router.check.interpolation import substitute
from router.check.subject import BUILT, PULLED
from router.cli.options import CONFIG_FILE, ConfigFile
from router.errors import ConfigError, FetchFailed, HearthError
from router.fetch.weights import Hub
from router.quantities import format_size
from router.settings import Role

_ENGINES = "compose/engine.yml"
_PATHS = ("/", "./", "../", "~/")


def add(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID]", help="A repository such as org/name, or a directory with config.json.", show_default=False
        ),
    ] = None,
    container: Annotated[
        str | None, typer.Option("--container", metavar="NAME", help="Like this container: its image and its options.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What clients ask for.")] = None,
    family: Annotated[str, typer.Option("--family", help="For `hearth models --family`.")] = "",
    image: Annotated[
        str, typer.Option("--image", help="A service of compose/engine.yml, or an image that has vLLM.")
    ] = "avarok",
    context: Annotated[
        int | None,
        typer.Option("--context", min=1, metavar="N", help="Tokens; without it what the checkpoint has and fits."),
    ] = None,
    utilization: Annotated[
        float | None,
        typer.Option("--utilization", min=0.01, max=1, metavar="X", help="Share of the GPU; without it as estimated."),
    ] = None,
    tool_parser: Annotated[
        str | None, typer.Option("--tool-parser", metavar="NAME", help="vLLM's name for how it writes tool calls.")
    ] = None,
    gpu: Annotated[str | None, typer.Option("--gpu", help="Of the configuration; without it the first.")] = None,
    config: ConfigFile = CONFIG_FILE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be written, and write nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Add a model: a service in compose/models-own.yml, an entry in compose/litellm-own.yaml.

    Its context, quantization and memory come from its config.json and the sizes of its files; what is written is shown
    first, and passes `hearth check`.
    """
    if (checkpoint is None) == (container is None):
        raise typer.BadParameter("give one of ID and --container")
    choice = Choice(name, family, image, context, utilization, tool_parser)
    try:
        made, changed = _prepared(checkpoint, container, choice, gpu, config)
    except HearthError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    out = Console(soft_wrap=True)
    _tell(made)
    for change in changed:
        text = change.difference()
        if out.is_terminal:
            out.print(Syntax(text, "diff", background_color="default", word_wrap=True))
        else:
            typer.echo(text)
    if dry_run:
        return
    if not yes and not typer.confirm("Write this?"):
        raise typer.Exit(1)
    try:
        files.write(changed)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    _tell_written(changed)


def _prepared(
    checkpoint: str | None, container: str | None, choice: Choice, gpu: str | None, path: Path
) -> tuple[Plan, list[Change]]:
    config = configuration.load(path)
    if config.settings.runtime != "docker":
        raise ConfigError(f"{path} runs engines as processes; this adds containers")
    gpus = config.settings.gpus
    if gpu is not None and gpu not in gpus:
        raise ConfigError(f"{path} has no GPU {gpu!r}; it has: {', '.join(gpus)}")
    settings = gpus[gpu or next(iter(gpus))]
    here = gpu or next(iter(gpus))
    kept = sum(spec.memory for spec in config.models.values() if spec.role is Role.UTILITY and here in spec.gpus)
    room = Room(here, settings.memory, settings.room - kept)
    if checkpoint is not None:
        made = plan.of_checkpoint(_checkpoint(checkpoint), choice, _base(path.parent, choice.image), room)
    else:
        running = source.of_container(str(container))
        found = running.checkpoint
        if found is None and not str(running.engine.model).startswith(_PATHS):
            with contextlib.suppress(ConfigError, FetchFailed):  # its command says enough
                found = _published(str(running.engine.model))
        made = plan.of_running(running, found, choice, room)
    if made.addition.name in config.cards or made.addition.name in config.disabled:
        raise ConfigError(f"{path} has a model {made.addition.name!r} already: give --name")
    changed = files.changes(path, made.addition)
    if faults := files.faults(path, changed, os.environ):
        said = "\n".join(f"{fault.code}: {fault.message} {fault.action}" for fault in faults)
        raise ConfigError(f"`hearth check` would not accept this, so nothing was written:\n{said}")
    return made, changed


def _checkpoint(name: str) -> Checkpoint:
    if name.startswith(_PATHS) or Path(name).is_dir():
        return source.of_directory(Path(name).expanduser().resolve())
    return _published(name)


def _published(name: str) -> Checkpoint:
    return source.of_repository(name, Hub(os.environ.get("HF_ENDPOINT") or None, os.environ.get("HF_TOKEN") or None))


def _base(root: Path, image: str) -> Base | None:
    """The service of compose/engine.yml of that name; None for an image. Raises ConfigError."""
    file = root / _ENGINES
    try:
        services: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))["services"]
    except (OSError, yaml.YAMLError, LookupError, TypeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    service = services.get(image)
    if service is None or not service.get("image"):
        if "/" in image or ":" in image:
            return None
        known = ", ".join(name for name, each in services.items() if each.get("image"))
        raise ConfigError(f"{image!r} is neither an image nor a service of {file}: {known}")
    starts = read_facts(root / ENGINE_FLAGS).of(substitute(service["image"], {})[0]).entrypoint
    own_entrypoint = "entrypoint" in service or starts is None
    return Base(
        image, ("vllm", "serve") if own_entrypoint else ("serve",), BUILT if "pull_policy" in service else PULLED
    )


def _tell(made: Plan) -> None:
    addition, needed = made.addition, made.estimate
    typer.echo(f"{addition.name}: {addition.context:,} tokens, {addition.quantization or 'not quantized'}", err=True)
    if needed is not None:
        typer.echo(
            f"Estimated: {format_size(needed.weights)} of weights, {format_size(needed.cache)} for one request of that "
            f"length, {format_size(needed.overhead)} beside it; given {made.share:.2f} of the GPU, {addition.memory} "
            "GiB",
            err=True,
        )
    for note in made.notes:
        typer.echo(note, err=True)


def _tell_written(changed: list[Change]) -> None:
    for change in changed:
        first, last = change.added
        if change.before is None:
            typer.echo(f"Wrote {change.path}; to undo, remove it.")
        else:
            typer.echo(f"Wrote {change.path}; to undo, remove lines {first} to {last}.")
