"""Prompts are in no log, and secrets in no file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from router.check.codes import found
from router.check.engine_command import EngineCommand, find
from router.check.findings import Finding, Place
from router.check.interpolation import substitute
from router.check.located import Located
from router.check.subject import Subject

_SECRET = re.compile(r"(?:^|[_-])(?:key|token|secret|password|passwd)$", re.IGNORECASE)
_NO_SECRETS = frozenset({"", "none", "empty", "dummy", "not-needed", "no-key"})
#: Variables of engines and of LiteLLM that make them write what people ask, by the values that do.
_TALKATIVE = {
    "VLLM_DEBUG_LOG_API_SERVER_RESPONSE": frozenset({"1", "true"}),
    "LITELLM_LOG": frozenset({"debug"}),
    "DETAILED_DEBUG": frozenset({"true"}),
}
_SETTINGS = {
    "litellm_settings": {"set_verbose": True},
    "general_settings": {"store_prompts_in_spend_logs": True},
}


def check(subject: Subject) -> Iterator[Finding]:
    """The configuration, then all that Compose's files say."""
    yield from _litellm(subject.document)
    yield from _written_secrets(subject.document, subject.document.place)
    for engine in subject.engines:
        if engine.service is None and engine.command is not None:
            where = engine.in_service("command")
            yield from _command(engine.command, engine.spec.name, where)
    if subject.compose is None:
        return
    for service in subject.compose.services.values():
        command = find(service.entrypoint, service.command)
        if command is not None:
            yield from _command(command, service.name, service.at("command"))
        for name, value in service.environment.items():
            if str(value).lower() in _TALKATIVE.get(name, ()):
                yield found("prompt-logging", service.at("environment"), f"{service.name}: {name} is {value}")
    for document in subject.compose.written.values():
        yield from _compose_secrets(document)


def _litellm(document: Mapping[str, Any]) -> Iterator[Finding]:
    if _section(document, "litellm_settings").get("turn_off_message_logging") is not True:
        place = _place(document, "litellm_settings", "turn_off_message_logging")
        yield found(
            "prompt-logging",
            place,
            "litellm_settings.turn_off_message_logging is not true: LiteLLM's log callbacks get prompts and answers",
            "Set it to true.",
        )
    for section, keys in _SETTINGS.items():
        for key, talkative in keys.items():
            if _section(document, section).get(key) is talkative:
                yield found(
                    "prompt-logging", _place(document, section, key), f"{section}.{key} is {str(talkative).lower()}"
                )


def _section(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    return found if isinstance(found, Mapping) else {}


def _place(document: Mapping[str, Any], section: str, key: str) -> Place | str:
    inner = document.get(section)
    if isinstance(inner, Located):
        return inner.at(key)
    return document.at(section) if isinstance(document, Located) else section


def _command(command: EngineCommand, name: str, where: str) -> Iterator[Finding]:
    for option in sorted(command.kind.requests_logged & set(command.names)):
        value = command.value(option)
        if value is None or value.lower() not in ("false", "0"):
            yield found("prompt-logging", where, f"{name}: {option}")


def _written_secrets(value: Any, place: Place) -> Iterator[Finding]:
    """Anywhere in LiteLLM's configuration: a key that is neither a reference nor a word for none."""
    if isinstance(value, list):
        for item in value:
            yield from _written_secrets(item, place)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            at = value.at(str(key)) if isinstance(value, Located) else place
            if _SECRET.search(str(key)) and isinstance(item, str):
                if not _is_reference(item):
                    yield found("secret", at, f"{key} has a value of its own")
            else:
                yield from _written_secrets(item, at)


def _is_reference(text: str) -> bool:
    return text.startswith("os.environ/") or text.strip().lower() in _NO_SECRETS


def _compose_secrets(document: Located) -> Iterator[Finding]:
    """Variables and options whose value is not empty when nothing at all is set in the shell."""
    for name, service in (document.get("services") or {}).items():
        if not isinstance(service, Located):
            continue
        build = service.get("build")
        arguments = build.get("args") if isinstance(build, Mapping) else None
        for section, value in (("environment", service.get("environment")), ("build", arguments)):
            for variable, text in _variables(value):
                if _SECRET.search(variable) and _has_default(text):
                    yield found(
                        "secret",
                        _variable_place(service, section, value, variable),
                        f"{name}: {variable} has a default",
                    )
        command = service.get("command")
        words = str(command).split() if not isinstance(command, list) else [str(word) for word in command]
        for at, word in enumerate(words):
            option, equals, text = word.partition("=")
            given = text if equals else " ".join(words[at + 1 : at + 2])
            if option.startswith("--") and _SECRET.search(option) and _has_default(given):
                yield found("secret", service.at("command"), f"{name}: {option} has a value of its own")


def _variables(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        yield from ((str(name), str(text)) for name, text in value.items() if text is not None)
    elif isinstance(value, list):
        for item in value:
            name, _, text = str(item).partition("=")
            yield name, text


def _variable_place(service: Located, section: str, value: Any, variable: str) -> Place:
    return value.at(variable) if isinstance(value, Located) else service.at(section)


def _has_default(text: str) -> bool:
    try:
        return substitute(text, {})[0].strip().lower() not in _NO_SECRETS
    except ValueError:
        return False  # Compose would not take it; the reader has said so
