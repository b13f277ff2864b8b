"""All checks in their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from router.check import (
    configuration,
    containers,
    engine_flags,
    images,
    memory,
    mounts,
    names,
    privacy,
    vllm_parser,
)
from router.check.findings import Finding, in_order
from router.check.subject import Subject, gather


@dataclass(frozen=True, slots=True)
class Outcome:
    """findings: errors first. compose: the file, None when there was none. vllm: the version whose parser was asked."""

    findings: list[Finding]
    models: int
    services: int
    compose: Path | None
    vllm: str | None


def run(path: Path, compose: Path | None, environment: Mapping[str, str], python: str | None) -> Outcome:
    """Check the configuration at `path`. compose: None looks for it beside `path`. python: one that has vLLM.

    Raises ConfigError when something cannot be read at all, ParserUnavailable when `python` has no vLLM.
    """
    subject = gather(path, compose, environment)
    questions = engine_flags.questions(subject)
    answer = vllm_parser.ask(python, questions) if python and questions else None
    return Outcome(
        findings=in_order(_all(subject, answer)),
        models=len(subject.engines),
        services=len(subject.model_services),
        compose=subject.compose.path if subject.compose else None,
        vllm=answer.version if answer else None,
    )


def _all(subject: Subject, answer: vllm_parser.Answer | None) -> list[Finding]:
    found: list[Finding] = []
    for module in (configuration, names, containers, images, mounts, memory, privacy):
        found.extend(module.check(subject))
    found.extend(engine_flags.check(subject, answer))
    return found
