"""The engine in a container's command line, behind whatever wraps it, and the options that it is given."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of an engine. Names of options, with `--`; None where it has no such option.

    requests_logged: options that write prompts or answers into the log. tools: options without all of which the engine
    answers a request with tools with an error, or with a call written as text.
    """

    name: str
    model: str | None
    served_name: str
    port: str
    default_port: int
    context: str | None
    memory_share: str | None
    memory_bytes: str | None
    weights: str | None
    health_paths: frozenset[str]
    requests_logged: frozenset[str]
    tools: frozenset[str]


VLLM = Kind(
    name="vllm",
    model="--model",
    served_name="--served-model-name",
    port="--port",
    default_port=8000,
    context="--max-model-len",
    memory_share="--gpu-memory-utilization",
    memory_bytes="--kv-cache-memory-bytes",
    weights="--download-dir",
    health_paths=frozenset({"/health", "/ping"}),
    requests_logged=frozenset({"--enable-log-requests", "--enable-log-outputs", "--enable-log-deltas"}),
    tools=frozenset({"--enable-auto-tool-choice", "--tool-call-parser"}),
)
SGLANG = Kind(
    name="sglang",
    model="--model-path",
    served_name="--served-model-name",
    port="--port",
    default_port=30000,
    context="--context-length",
    memory_share="--mem-fraction-static",
    memory_bytes="--max-total-tokens",
    weights="--download-dir",
    health_paths=frozenset({"/health", "/health_generate", "/ping"}),
    requests_logged=frozenset({"--log-requests", "--log-requests-level", "--crash-dump-folder"}),
    tools=frozenset({"--tool-call-parser"}),
)
SIMULATOR = Kind(
    name="simulator",
    model=None,
    served_name="--served-model-name",
    port="--port",
    default_port=8000,
    context=None,
    memory_share=None,
    memory_bytes=None,
    weights=None,
    health_paths=frozenset({"/health"}),
    requests_logged=frozenset(),
    tools=frozenset(),
)
_MODULES = {
    "vllm.entrypoints.openai.api_server": VLLM,
    "sglang.launch_server": SGLANG,
    "router.engine_simulator": SIMULATOR,
}
_PROGRAMS = {"vllm": VLLM, "sglang": SGLANG}
_SHELLS = frozenset({"sh", "bash", "dash", "zsh"})
_OPTION = re.compile(r"--?[A-Za-z]")


@dataclass(frozen=True, slots=True)
class EngineCommand:
    """arguments: all that comes after the engine's name. options: in their order, dashes for underscores."""

    kind: Kind
    arguments: tuple[str, ...]
    options: tuple[tuple[str, tuple[str, ...]], ...]

    def values(self, name: str | None) -> tuple[str, ...]:
        """The values of the last option of that name; empty when it has none, or is not there."""
        return next((values for option, values in reversed(self.options) if option == name), ())

    def value(self, name: str | None) -> str | None:
        """The first of `values`; None when there is none."""
        return next(iter(self.values(name)), None)

    @property
    def names(self) -> list[str]:
        """All options, as often as they are there."""
        return [name for name, _ in self.options]

    @property
    def model(self) -> str | None:
        """The weights: what is served."""
        if self.arguments and not self.arguments[0].startswith("-"):
            return self.arguments[0]
        return self.value(self.kind.model) or self.value("--model")

    @property
    def served_names(self) -> tuple[str, ...]:
        """What clients of the engine may call its model."""
        return self.values(self.kind.served_name) or ((self.model,) if self.model else ())

    @property
    def port(self) -> str:
        """Where it listens."""
        return self.value(self.kind.port) or str(self.kind.default_port)


def find(entrypoint: Sequence[str] | None, command: Sequence[str]) -> EngineCommand | None:
    """The engine that these words start; None when they start none that is known.

    entrypoint: None is the image's own, which for an image of vLLM may be `vllm` itself: the command then begins with
    `serve`.
    """
    words = [*(entrypoint or ()), *command]
    if entrypoint is None and words[:1] == ["serve"]:
        return _command(VLLM, words[1:])
    for at, word in enumerate(words):
        program = word.rsplit("/", 1)[-1]
        if program in _SHELLS and (script := _script(words[at + 1 :])) is not None:
            return find((), script)
        if program in _PROGRAMS and words[at + 1 : at + 2] == ["serve"]:
            return _command(_PROGRAMS[program], words[at + 2 :])
        if word == "-m" and words[at + 1 : at + 2] and (kind := _MODULES.get(words[at + 1])):
            return _command(kind, words[at + 2 :])
    return None


def _script(words: Sequence[str]) -> list[str] | None:
    """The words of a shell's `-c` script; None when it has none."""
    for at, word in enumerate(words[:-1]):
        if not word.startswith("-"):
            return None
        if not word.startswith("--") and word.endswith("c"):
            try:
                return shlex.split(words[at + 1].replace("\\\n", " "), comments=True)
            except ValueError:
                return None
    return None


def _command(kind: Kind, arguments: Sequence[str]) -> EngineCommand:
    options: list[tuple[str, list[str]]] = []
    for word in arguments:
        if _OPTION.match(word):
            name, equals, value = word.partition("=")
            options.append((name.replace("_", "-"), [value] if equals else []))
        elif options:
            options[-1][1].append(word)
    return EngineCommand(kind, tuple(arguments), tuple((name, tuple(values)) for name, values in options))
