"""The options of the engines: each known to the engine's own parser, or listed for the image with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from router.check.codes import found
from router.check.engine_command import SGLANG, VLLM, EngineCommand, find
from router.check.findings import Finding
from router.check.image_facts import ENGINE_FLAGS, Reference
from router.check.subject import Subject
from router.check.vllm_parser import Answer, Verdict

#: Options that may well be there more than once.
_REPEATABLE = frozenset({"--middleware", "--lora-modules"})


def questions(subject: Subject) -> dict[str, tuple[str, ...]]:
    """What vLLM's parser is to be asked: the arguments by the name of the service, or of a process's model."""
    return {name: command.arguments for name, _, _, command in _commands(subject) if command.kind is VLLM}


def check(subject: Subject, answer: Answer | None) -> Iterator[Finding]:
    """answer: what vLLM's parser says of `questions`; None when there is none to ask."""
    used: dict[str, set[str]] = {}
    for name, where, image, command in _commands(subject):
        listed = subject.facts.of(image).flags
        for key in Reference.parse(image or "").names:
            used.setdefault(key, set()).update(command.names)
        yield from _twice(name, where, command)
        if command.kind is VLLM and answer is not None and (verdict := answer.answers.get(name)):
            yield from _judged(name, where, image, verdict, listed, answer.version)
            yield from _known_by_now(subject, image, command, verdict, answer.version)
        elif command.kind is SGLANG and (options := subject.facts.options.get(SGLANG.name)):
            for option in sorted(set(command.names) - options - listed.keys()):
                yield found("flag-unlisted", where, f"{name}: {option} is not listed for {SGLANG.name}")
    if subject.compose is not None:
        for image, facts in subject.facts.images.items():
            for option in sorted(facts.flags.keys() - used.get(image, set())):
                yield found("flag-unused", subject.root / ENGINE_FLAGS, f"{image}: no service uses {option}")


def _commands(subject: Subject) -> Iterator[tuple[str, str, str | None, EngineCommand]]:
    """Name, place, image and command of every engine, also of those that no model names."""
    if subject.compose is not None:
        for service in subject.model_services:
            command = find(service.entrypoint, service.command)
            if command is not None:
                yield service.name, service.at("command"), service.image, command
    for engine in subject.engines:
        if engine.service is None and engine.command is not None:
            yield engine.spec.name, engine.in_service("command"), None, engine.command


def _twice(name: str, where: str, command: EngineCommand) -> Iterator[Finding]:
    for option, times in Counter(command.names).items():
        if times > 1 and option not in _REPEATABLE and "." not in option:
            yield found("flag-twice", where, f"{name}: {option}")


def _judged(
    name: str, where: str, image: str | None, verdict: Verdict, listed: dict[str, str], version: str
) -> Iterator[Finding]:
    for option in verdict.unknown:
        if option not in listed:
            has = f"vLLM {version} does not know {option}, and it is not listed for {image or 'a process'}"
            yield found("engine-flag", where, f"{name}: {has}")
    for refused, message in verdict.refused:
        if refused not in listed:
            yield found("engine-value", where, f"{name}: vLLM {version}: {message}")


def _known_by_now(
    subject: Subject, image: str | None, command: EngineCommand, verdict: Verdict, version: str
) -> Iterator[Finding]:
    """Once for each listed option that needs no excuse any more."""
    excused = {*verdict.unknown, *(option for option, _ in verdict.refused)}
    for option in sorted((subject.facts.of(image).flags.keys() & set(command.names)) - excused):
        yield found("flag-known", subject.root / ENGINE_FLAGS, f"{image}: vLLM {version} knows {option}")
