"""A new model as text: its service for Compose, its entry for LiteLLM, in the style of the files beside them. Pure.

Files are only ever added to, so whatever people wrote in them stays as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

_PLAIN = re.compile(r"[A-Za-z0-9_./=-][\w./=:@+,-]*")
#: Most tokens of an answer, as in the shipped entries: a quarter of the context, and no more than this.
_LONGEST_ANSWER = 65536


@dataclass(frozen=True, slots=True)
class Addition:
    """One model and its container.

    base: the service of compose/engine.yml that it extends. image: None is the base's. entrypoint: None is the image's.
    cache: a volume of its own at /cache; None where the base has one. environment: values as Compose takes them.
    binds: in Compose's short form. memory: GiB. weights: None when they are in no public repository.
    """

    name: str
    container: str
    base: str
    profile: str
    command: tuple[str, ...]
    port: str
    context: int
    memory: int
    gpu: str = "0"
    image: str | None = None
    entrypoint: tuple[str, ...] | None = None
    cache: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    binds: tuple[str, ...] = ()
    provider: str = "hosted_vllm"
    tools: bool = False
    vision: bool = False
    family: str = ""
    weights: str | None = None
    quantization: str = ""
    notes: str = ""


COMPOSE_HEADER = """\
# Models that were added on this box: their containers. `hearth add` appends here; lifecycle and limits are in
# litellm-own.yaml.
"""
LITELLM_HEADER = """\
# Models that were added on this box: what LiteLLM and Hearth know of them. `hearth add` appends here; their containers
# are in models-own.yml.
"""


def service_lines(addition: Addition) -> list[str]:
    """The service, indented for below `services:`."""
    lines = [
        f"  {addition.container}:",
        f"    extends: {{file: engine.yml, service: {addition.base}}}",
        f"    profiles: [{addition.profile}]",
        f"    container_name: {addition.container}",
    ]
    if addition.image is not None:
        lines.append(f"    image: {_dollars(_scalar(addition.image))}")
    if addition.entrypoint is not None:
        lines.append(f"    entrypoint: [{', '.join(_dollars(_scalar(word)) for word in addition.entrypoint)}]")
    if addition.environment:
        lines += ["    environment:", *(f"      {name}: {_scalar(value)}" for name, value in addition.environment)]
    volumes = [*([f"{addition.cache}:/cache"] if addition.cache else []), *map(_dollars, addition.binds)]
    if volumes:
        lines += ["    volumes:", *(f"      - {_scalar(volume)}" for volume in volumes)]
    return [*lines, "    command:", *(f"      - {_dollars(_scalar(word))}" for word in addition.command)]


def entry_lines(addition: Addition) -> list[str]:
    """The entry, indented for below `model_list:`."""
    rules = {"images: refuse": not addition.vision, "tools: strip": not addition.tools}
    listed = ", ".join(rule for rule, holds in rules.items() if holds)
    gpu = "" if addition.gpu == "0" else f'gpu: "{addition.gpu}", '
    catalogue = {"family": addition.family, "weights": addition.weights, "quantization": addition.quantization}
    return [
        f"  - model_name: {_scalar(addition.name)}",
        "    litellm_params:",
        f"      model: {addition.provider}/{addition.name}",
        f"      api_base: http://{addition.container}:{addition.port}/v1",
        "    model_info:",
        "      mode: chat",
        f"      max_input_tokens: {addition.context}",
        f"      max_output_tokens: {max(1, min(addition.context // 4, _LONGEST_ANSWER))}",
        f"      supports_function_calling: {_bool(addition.tools)}",
        f"      supports_vision: {_bool(addition.vision)}",
        "      supports_reasoning: false",
        f"      lifecycle: {{container: {addition.container}, {gpu}memory: {addition.memory}GiB}}",
        *([f"      request_rules: {{{listed}}}"] if listed else []),
        "      catalogue:",
        *(f"        {key}: {_scalar(value)}" for key, value in catalogue.items() if value),
        "        experimental: true",
        *([f"        notes: {json.dumps(addition.notes, ensure_ascii=False)}"] if addition.notes else []),
    ]


def with_block(text: str, key: str, lines: Sequence[str], *, apart: bool = False) -> str:
    """`text` with `lines` at the end of its top-level block `key`, which is made at the end if it is not there. apart:
    an empty line before them, unless they are the first. Nothing else changes."""
    old = text.splitlines()
    at = next((number for number, line in enumerate(old) if re.match(rf"{re.escape(key)}:(\s|$)", line)), None)
    if at is None:
        blank = [""] if old and old[-1].strip() else []
        return "\n".join([*old, *blank, f"{key}:", *lines]) + "\n"
    if re.fullmatch(r"(\[\s*\]|\{\s*\})?\s*(#.*)?", old[at].partition(":")[2].strip()) is None:
        raise ValueError(f"`{key}:` is written in one line; put its parts on lines of their own")
    head = re.sub(r"(\[\s*\]|\{\s*\})", "", old[at]).rstrip()
    end = next(
        (
            number
            for number in range(at + 1, len(old))
            if old[number].strip() and not old[number].startswith((" ", "-"))
        ),
        len(old),
    )
    while end > at + 1 and not old[end - 1].strip():
        end -= 1
    gap = [""] if apart and end > at + 1 else []
    return "\n".join([*old[:at], head, *old[at + 1 : end], *gap, *lines, *old[end:]]) + "\n"


def name_of(source: str) -> str:
    """A model's name from where its weights are: the last part, small letters."""
    return re.sub(r"[^a-z0-9._-]+", "-", source.rstrip("/").rsplit("/", 1)[-1].lower()).strip("-._") or "model"


def container_of(name: str) -> str:
    """A container's name for a model, which is also its host's name."""
    return f"vllm-{re.sub(r'[^a-z0-9.-]+', '-', name.lower()).strip('-.')}"


def _scalar(text: str) -> str:
    """A YAML scalar that reads as exactly this text."""
    if _PLAIN.fullmatch(text) and not text.endswith(":") and yaml.safe_load(text) == text:
        return text
    return json.dumps(text, ensure_ascii=False)


def _dollars(text: str) -> str:
    """Compose fills in what follows a dollar; twice it is one."""
    return text.replace("$", "$$")


def _bool(value: bool) -> str:
    return "true" if value else "false"
