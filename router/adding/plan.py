"""From what is known of a model, and what was asked for, to what is added. Pure.

The memory rule is the shipped models': the engine's share of the GPU's memory, and `lifecycle.memory` that share of it,
rounded up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from router.adding.checkpoint import Checkpoint
from router.adding.entry import Addition, container_of, name_of
from router.adding.estimate import Estimate, claim_of, estimate, largest_share, longest_context, share_of
from router.adding.source import Running
from router.check.engine_command import EngineCommand
from router.check.names import tokens
from router.check.subject import PULLED
from router.errors import ConfigError
from router.quantities import format_size

_GIB = 2**30
_PUBLIC = re.compile(r"[\w.-]+/[\w.-]+")
#: A model's name: its container is named after it, and LiteLLM splits and matches names by other signs.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?")
#: What an engine is given where nobody says how much, and nothing is known: vLLM's own default.
_DEFAULT_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked for; None and empty are left to what is known. image: a service of compose/engine.yml, or an
    image that has vLLM. utilization: the engine's share of the GPU's memory, up to 1. tool_parser: the engine's own
    name for how this model writes tool calls."""

    name: str | None = None
    family: str = ""
    image: str = "avarok"
    context: int | None = None
    utilization: float | None = None
    tool_parser: str | None = None


@dataclass(frozen=True, slots=True)
class Base:
    """A service of compose/engine.yml. serves: the words before the weights. pulled: whether its image is."""

    name: str
    serves: tuple[str, ...]
    profile: str


@dataclass(frozen=True, slots=True)
class Room:
    """A GPU's memory, and what of it a model may claim beside those that are always there, in bytes."""

    gpu: str
    memory: int
    models: int


@dataclass(frozen=True, slots=True)
class Plan:
    """estimate: None when too little is known. notes: what the owner should know, a sentence each."""

    addition: Addition
    estimate: Estimate | None
    share: float
    notes: tuple[str, ...]


def of_checkpoint(found: Checkpoint, choice: Choice, base: Base | None, room: Room) -> Plan:
    """A container for a checkpoint that vLLM serves. base: None for an image of its own. Raises ConfigError."""
    context, notes = _context(found, choice, room)
    needed = estimate(found, context)
    share = _share(found.source, needed, choice.utilization, room)
    name = _name(choice, found.source)
    local = found.source.startswith("/") or not _PUBLIC.fullmatch(found.source)
    source = f"/models/{found.source.rstrip('/').rsplit('/', 1)[-1]}" if local else found.source
    if local:
        notes.append(f"The engine looks for the weights at {source}: put them into the volume of the weights.")
    command = [
        *(base.serves if base else ("vllm", "serve")),
        source,
        f"--served-model-name={name}",
        "--host=0.0.0.0",
        "--port=8000",
        "--download-dir=/models",
        f"--max-model-len={context}",
        f"--gpu-memory-utilization={share:.2f}",
        *(("--enable-auto-tool-choice", f"--tool-call-parser={choice.tool_parser}") if choice.tool_parser else ()),
        "--no-enable-log-requests",
        "--disable-log-stats",
    ]
    addition = Addition(
        name=name,
        container=container_of(name),
        base=base.name if base else "engine",
        profile=base.profile if base else PULLED,
        image=None if base else choice.image,
        entrypoint=None if base else (),
        cache=None if base else _cache(choice.image),
        command=tuple(command),
        port="8000",
        context=context,
        gpu=room.gpu,
        memory=claim_of(share, room.memory),
        tools=choice.tool_parser is not None,
        vision=found.vision,
        family=choice.family,
        weights=None if local else found.source,
        quantization=found.quantization,
    )
    return Plan(addition, needed, share, tuple(notes + _about(addition)))


def of_running(running: Running, found: Checkpoint | None, choice: Choice, room: Room) -> Plan:
    """A container like one that there is, with the image and options that it has. found: its checkpoint, if that could
    be read. Raises ConfigError."""
    engine, kind = running.engine, running.engine.kind
    notes = list[str]()
    said = engine.value(kind.context)
    context = choice.context or (tokens(said) if said else None)
    if context is None:
        if found is None:
            raise ConfigError(f"{running.name} does not say how long its context is: give --context")
        context, notes = _context(found, choice, room)
    needed = estimate(found, context) if found else None
    share = choice.utilization or _number(engine.value(kind.memory_share))
    if share is None:
        share = _share(running.name, needed, None, room) if needed else _DEFAULT_SHARE
    _require_room(running.name, share, room)
    name = _name(choice, (engine.served_names or (running.name,))[0])
    container = container_of(name)
    if container == running.name:
        container = f"{container}-hearth"  # two of one name there cannot be
    weights = engine.model or ""
    binds = tuple(bind for bind in running.binds if bind.startswith("/"))
    if len(binds) < len(running.binds):
        notes.append(
            "Its Docker volumes are left out; the weights are looked for in /models and in engines' own cache."
        )
    if running.script:
        notes.append("A shell script started its engine: what else the script does is left out.")
    addition = Addition(
        name=name,
        container=container,
        base="engine",
        profile=PULLED,
        image=running.image,
        entrypoint=(),
        cache=_cache(running.image),
        environment=running.environment,
        binds=binds,
        command=(*running.prefix, *_options(engine, name, context, share)),
        port="8000",
        context=context,
        gpu=room.gpu,
        memory=claim_of(share, room.memory),
        tools=kind.tools <= set(engine.names),
        vision=found.vision if found else False,
        family=choice.family,
        weights=weights if _PUBLIC.fullmatch(weights) else None,
        quantization=found.quantization if found else "",
    )
    notes.append(f"{running.name} itself is left alone: end it before this one starts, both want the GPU.")
    return Plan(addition, needed, share, tuple(notes + _about(addition)))


def _name(choice: Choice, source: str) -> str:
    if choice.name is None:
        return name_of(source)
    if not _NAME.fullmatch(choice.name):
        raise ConfigError(
            f"--name {choice.name!r}: a model's name has letters of English, digits, and between them . _ - or /"
        )
    return choice.name


def _context(found: Checkpoint, choice: Choice, room: Room) -> tuple[int, list[str]]:
    """Tokens, and what to say about them."""
    if choice.context is not None:
        longer = found.context is not None and choice.context > found.context
        return choice.context, [f"The checkpoint says {found.context:,} tokens, less than asked for."] if longer else []
    if found.context is None:
        raise ConfigError(f"{found.source} does not say how long its context is: give --context")
    usable = int(largest_share(room.models, room.memory) * room.memory)
    fits = longest_context(found, usable, found.context)
    if fits is None or fits == found.context:
        return found.context, []
    return fits, [f"The checkpoint has {found.context:,} tokens; {fits:,} is what fits the GPU by the estimate."]


def _share(source: str, needed: Estimate | None, asked: float | None, room: Room) -> float:
    if asked is None and needed is None:
        raise ConfigError(f"{source} does not say enough to estimate its memory: give --utilization")
    share = asked if asked is not None else share_of(needed.total if needed else 0, room.memory)
    _require_room(source, share, room)
    return share


def _require_room(source: str, share: float, room: Room) -> None:
    if claim_of(share, room.memory) * _GIB > room.models:
        raise ConfigError(
            f"{source} would claim {claim_of(share, room.memory)} GiB, and {format_size(room.models)} are left for it: "
            "give a smaller --context or --utilization, or take a smaller quantization"
        )


def _options(engine: EngineCommand, name: str, context: int, share: float) -> tuple[str, ...]:
    """The engine's arguments as they are, but for what has to be ours."""
    kind = engine.kind
    ours = {
        kind.served_name: name,
        "--host": "0.0.0.0",  # noqa: S104 - in the container's own network
        kind.port: "8000",
        kind.context: str(context),
        kind.memory_share: f"{share:.2f}",
    }
    words = list(engine.arguments[:1]) if engine.arguments and not engine.arguments[0].startswith("-") else []
    for option, values in engine.options:
        if option not in ours and option not in kind.requests_logged:
            words += [f"{option}={values[0]}"] if len(values) == 1 else [option, *values]
    return (*words, *(f"{option}={value}" for option, value in ours.items() if option))


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _cache(image: str) -> str:
    """A volume for what this image compiles: what another one compiled is nothing for it."""
    return "cache-" + re.sub(r"[^a-z0-9]+", "-", image.partition("@")[0].lower()).strip("-")


def _about(addition: Addition) -> list[str]:
    profile = f"docker compose --profile {addition.profile} create {addition.container}"
    said = [f"Then: {profile}, and docker compose restart router gateway."]
    if not addition.tools:
        said.append("Tools are off: --tool-parser NAME says how the engine reads this model's tool calls.")
    return said
