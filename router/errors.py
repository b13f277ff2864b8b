"""Errors that a client, an admin or the log sees.

HearthError
├── ConfigError               the configuration cannot be used; names the place in the file
├── StoreUnavailable          Redis does not answer
├── Fenced                    this router no longer holds the GPU lock
├── EngineError               an engine did not do what it was asked
│   ├── EngineMissing         no container or program of that name
│   ├── EngineStartFailed     it ended, or never became healthy
│   └── EngineStopFailed      it is still running after its stop
├── RuntimeUnavailable        Docker cannot be asked
├── FetchFailed               a file that engines need could not be fetched
├── MemoryUnknown             the free memory of a GPU cannot be read
└── Refusal                   a request that will not be served now; becomes an HTTP answer
    ├── CallerLimit           429, the caller's own wait limit has passed
    ├── LineFull              429, too many wait for this model, or for this caller, already
    ├── WaitBoundExceeded     504, the configured bound on waiting has passed
    ├── ModelFailed           503, the model did not start or is cooling down
    ├── ModelNeverFits        400, the model's memory is larger than its GPU
    ├── Unfit                 400, the request asks for what its model cannot do
    ├── Cancelled             499, its owner or an admin has cancelled it
    ├── ServiceUnavailable    503, Redis, Docker or the router is away
    └── ClientGone            499, nobody is there to read the answer
"""

from __future__ import annotations

from dataclasses import dataclass, field


class HearthError(Exception):
    """Root of every error that Hearth raises on purpose."""


class ConfigError(HearthError):
    """The configuration cannot be used. The message has one line per fault, each with its path in the file."""


class StoreUnavailable(HearthError):
    """Redis could not be reached or did not answer in time."""


class Fenced(HearthError):
    """A write came with a fencing token that is no longer the current one; the writer must stop acting."""


class EngineError(HearthError):
    """An engine did not do what it was asked. `log` holds its last lines, oldest first (for admins only)."""

    def __init__(self, message: str, log: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.log = log


class EngineMissing(EngineError):
    """There is no container, or no program, of the configured name."""


class EngineStartFailed(EngineError):
    """The engine ended while it loaded, or was not healthy in time."""


class EngineStopFailed(EngineError):
    """The engine is still there after the stop and its grace."""


class RuntimeUnavailable(HearthError):
    """The container runtime could not be asked, so nothing may be started."""


class FetchFailed(HearthError):
    """A published file could not be fetched or kept. The message says what to do."""


class MemoryUnknown(HearthError):
    """How much memory of a GPU is free could not be read. Starts and stops go on without it."""


@dataclass(eq=False)  # an exception is hashable and equal to itself only
class Refusal(HearthError):
    """A request that is not served now. `message` says what happened and what to do next.

    retry_after: seconds after which another try makes sense; None where trying again cannot help.
    position: its place in the line, 1 is next. expected_seconds, at_most_seconds: until its model would have answered.
    None where they are not known.
    log: the engine's last lines, shown to admins only.
    """

    message: str
    model: str = ""
    phase: str = ""
    retry_after: float | None = None
    position: int | None = None
    expected_seconds: float | None = None
    at_most_seconds: float | None = None
    log: tuple[str, ...] = field(default=(), repr=False)

    status = 503
    type = "service_unavailable"

    def __str__(self) -> str:
        return self.message


class CallerLimit(Refusal):
    """The wait limit that the caller set for this request has passed."""

    status = 429
    type = "model_busy"


class LineFull(Refusal):
    """As many requests as the configuration allows wait already, for this model or of this caller."""

    status = 429
    type = "line_full"


class WaitBoundExceeded(Refusal):
    """The longest wait that the configuration allows has passed."""

    status = 504
    type = "wait_bound_exceeded"


class ModelFailed(Refusal):
    """The model could not be started, or is cooling down after it could not."""

    type = "model_failed"


class ModelNeverFits(Refusal):
    """The model's declared memory is larger than what its GPU can give."""

    status = 400
    type = "model_does_not_fit"

    @classmethod
    def of(cls, model: str) -> ModelNeverFits:
        """The refusal of every request for this model."""
        return cls(
            f"Model {model!r} needs more memory than its GPU has for models. Lower its memory in the configuration, or "
            "its GPU's reserve.",
            model=model,
        )


class Cancelled(Refusal):
    """Its owner or an admin has cancelled the request. Client libraries do not ask again after this status."""

    status = 499
    type = "request_cancelled"


@dataclass(eq=False)
class Unfit(Refusal):
    """The model cannot take this request, however long it waits. param: the part of the request that is wrong.
    code: the kind of fault, in OpenAI's words."""

    param: str | None = None
    code: str | None = None

    status = 400
    type = "invalid_request_error"


class ServiceUnavailable(Refusal):
    """Something that the answer depends on (Redis, Docker, the router) is away."""

    type = "service_unavailable"


class ClientGone(Refusal):
    """The client closed its connection while it waited."""

    status = 499
    type = "client_closed_request"


#: Refusals by the name under which they travel through Redis.
REFUSALS: dict[str, type[Refusal]] = {
    kind.__name__: kind for kind in (Cancelled, ModelFailed, ModelNeverFits, ServiceUnavailable, WaitBoundExceeded)
}
