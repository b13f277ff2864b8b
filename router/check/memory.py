"""Memory: what a model claims against what its engine takes, and what runs beside what."""

from __future__ import annotations

from collections.abc import Iterator

from router.check.codes import found
from router.check.findings import Finding
from router.check.subject import Engine, Subject
from router.config import Config
from router.quantities import format_size
from router.settings import Role

#: A claim above what the engine takes by less than this is rounding, or what was measured.
_SLACK = 4 * 2**30


def check(subject: Subject) -> Iterator[Finding]:
    """Each engine, then the sums of each GPU. That each model fits its GPU alone, `subject.faults` says."""
    if subject.config is None:
        return
    for engine in subject.engines:
        yield from _engine(engine, subject.config)
    for gpu in subject.config.settings.gpus:
        yield from _together(subject.engines, gpu, subject.config)


def _engine(engine: Engine, config: Config) -> Iterator[Finding]:
    command, spec = engine.command, engine.spec
    if command is None or command.kind.memory_share is None:
        return
    where = engine.at("model_info", "lifecycle", "memory")
    text = command.value(command.kind.memory_share)
    if text is None:
        if command.value(command.kind.memory_bytes) is None:
            yield found("memory-share", engine.in_service("command"), f"{spec.name}: no {command.kind.memory_share}")
        return
    try:
        share = float(text)
    except ValueError:
        return  # the engine's own parser says what is wrong with it
    for gpu in spec.gpus:
        taken = round(share * config.settings.gpus[gpu].memory)
        takes = f"{command.kind.memory_share} {text} takes {format_size(taken)}"
        has = f"{spec.name}: claims {format_size(spec.memory)}, {takes}"
        if spec.memory < taken:
            yield found("memory-claim", where, has)
        elif spec.memory > taken + _SLACK:
            yield found("memory-slack", where, has)


def _together(engines: list[Engine], gpu: str, config: Config) -> Iterator[Finding]:
    room = config.settings.gpus[gpu].room
    here = [engine for engine in engines if gpu in engine.spec.gpus and engine.spec.name in config.models]
    utilities = [engine for engine in here if engine.spec.role is Role.UTILITY]
    kept = sum(engine.spec.memory for engine in utilities)
    if not utilities:
        return
    if kept > room:
        names = ", ".join(engine.spec.name for engine in utilities)
        where = utilities[-1].at("model_info", "lifecycle", "memory")
        yield found("memory-utilities", where, f"GPU {gpu}: {names} claim {format_size(kept)} of {format_size(room)}")
        return
    for engine in here:
        if engine.spec.role is Role.NORMAL and engine.spec.memory + kept > room:
            where = engine.at("model_info", "lifecycle", "memory")
            claim = f"{format_size(engine.spec.memory)} and {format_size(kept)} for the utility models"
            yield found("memory-beside", where, f"{engine.spec.name}: {claim} are more than {format_size(room)}")
