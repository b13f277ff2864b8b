"""The narrow interface between the controller and what runs the engines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from router.config import ModelSpec


@dataclass(frozen=True, slots=True)
class Instance:
    """What the runtime knows of one engine. started_at: unix seconds, None when it never ran. exit_code: None while it
    runs or when nobody saw it end. out_of_memory: the kernel killed it for memory."""

    running: bool
    exit_code: int | None = None
    out_of_memory: bool = False
    started_at: float | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """An engine runs, whoever has started it."""

    model: str


@dataclass(frozen=True, slots=True)
class Exited:
    """An engine has ended, whoever has stopped it. exit_code: None when nobody saw it."""

    model: str
    exit_code: int | None
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """The runtime cannot be asked; nothing may be started until Regained."""

    reason: str


@dataclass(frozen=True, slots=True)
class Regained:
    """The runtime answers (again); what happened meanwhile has to be read by `inspect`."""


RuntimeEvent = Started | Exited | Lost | Regained


class Runtime(Protocol):
    """Starts, stops and watches the engines of the configured models, and touches nothing else.

    Every method raises RuntimeUnavailable when the runtime itself does not answer, and EngineMissing when the model's
    container or program does not exist.
    """

    async def start(self, spec: ModelSpec) -> None:
        """Start the engine; returns when it runs, not when it is ready. Starting what runs does nothing.
        Raises EngineStartFailed."""

    async def stop(self, spec: ModelSpec) -> None:
        """Stop the engine, by force after its stop_timeout; returns when it is gone. Stopping what is stopped does
        nothing. Raises EngineStopFailed."""

    async def inspect(self, spec: ModelSpec) -> Instance:
        """The engine's state now."""

    async def logs(self, spec: ModelSpec, lines: int) -> tuple[str, ...]:
        """The last lines of what the engine wrote, oldest first."""

    def watch(self) -> AsyncIterator[RuntimeEvent]:
        """Everything that happens to the engines from now on; Regained first, as soon as the runtime answers.
        Survives the loss of the runtime; ends when it is closed."""

    async def close(self) -> None:
        """Let go of the runtime. The engines go on running."""
