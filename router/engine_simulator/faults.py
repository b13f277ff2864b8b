"""Faults: each is one way in which a real engine was seen to fail, written as `name` or `name=value`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable


class FaultError(ValueError):
    """A fault specification that cannot be understood; the message says what would be."""


def _number(fault: str, value: str, what: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise FaultError(f"{fault}: {what} must be a number of at least 0, not {value!r}")
    return number


def _count(fault: str, value: str, what: str) -> int:
    number = _number(fault, value, what)
    if number != int(number):
        raise FaultError(f"{fault}: {what} must be a whole number, not {value!r}")
    return int(number)


@dataclass(frozen=True)
class Fault:
    """What all faults share: a name and a form of value. This one takes no value."""

    name: ClassVar[str] = ""
    form: ClassVar[str] = ""
    """The value's form as shown to a person, empty where there is none."""

    @classmethod
    def parse(cls, value: str) -> Self:
        """Read the part after `=`. Raises FaultError when it does not have the fault's form."""
        if value:
            raise FaultError(f"{cls.name} takes no value, got {value!r}")
        return cls()


@dataclass(frozen=True)
class SecondsFault(Fault):
    """A fault measured in seconds."""

    form = "SECONDS"
    seconds: float = 0.0

    @classmethod
    def parse(cls, value: str) -> Self:
        return cls(_number(cls.name, value, "SECONDS"))


@dataclass(frozen=True)
class TokensFault(Fault):
    """A fault that strikes each request that has produced so many tokens."""

    form = "TOKENS"
    tokens: int = 0

    @classmethod
    def parse(cls, value: str) -> Self:
        return cls(_count(cls.name, value, "TOKENS"))


@dataclass(frozen=True)
class ExitWhileLoading(Fault):
    """The process ends while it loads, with an error on stderr, as a model that does not fit does."""

    name = "exit-while-loading"
    form = "CODE[@SECONDS]"
    code: int
    seconds: float = 0.0

    @classmethod
    def parse(cls, value: str) -> Self:
        code, _, seconds = value.partition("@")
        return cls(_count(cls.name, code, "CODE"), _number(cls.name, seconds or "0", "SECONDS"))


@dataclass(frozen=True)
class NeverReady(Fault):
    """Loading never ends."""

    name = "never-ready"


@dataclass(frozen=True)
class Unhealthy(Fault):
    """/health answers 503; everything else works."""

    name = "unhealthy"


@dataclass(frozen=True)
class DieMidStream(Fault):
    """The process ends at once, without a word, when a request has produced so many tokens."""

    name = "die-mid-stream"
    form = "[CODE@]TOKENS"
    tokens: int
    code: int = 1

    @classmethod
    def parse(cls, value: str) -> Self:
        code, at, tokens = value.rpartition("@")
        return cls(_count(cls.name, tokens, "TOKENS"), _count(cls.name, code, "CODE") if at else 1)


@dataclass(frozen=True)
class ErrorMidStream(TokensFault):
    """The request fails after so many tokens: an error inside the stream, or a 500 where nothing was sent yet."""

    name = "error-mid-stream"


@dataclass(frozen=True)
class TruncatedStream(TokensFault):
    """The connection is cut after so many tokens, without an end of the stream."""

    name = "truncated-stream"


@dataclass(frozen=True)
class Http500(Fault):
    """Every inference request is answered 500."""

    name = "http-500"


@dataclass(frozen=True)
class HangBeforeFirstToken(Fault):
    """Requests are taken and never produce a token."""

    name = "hang-before-first-token"


@dataclass(frozen=True)
class StallMidStream(TokensFault):
    """Requests stop producing after so many tokens, with the connection open."""

    name = "stall-mid-stream"


@dataclass(frozen=True)
class SlowFirstToken(SecondsFault):
    """The first token comes so many seconds later than it should."""

    name = "slow-first-token"


@dataclass(frozen=True)
class IgnoreSigterm(Fault):
    """SIGTERM and SIGINT are logged and ignored, as by a process 1 without an init."""

    name = "ignore-sigterm"


@dataclass(frozen=True)
class HangOnSigterm(Fault):
    """On SIGTERM generation ends, yet open requests get no answer and the process waits for their clients to leave.

    vLLM 0.32 does this in about half of the stops with a stream in flight.
    """

    name = "hang-on-sigterm"


@dataclass(frozen=True)
class ExitZeroOnCrash(SecondsFault):
    """The engine behind the API dies at once: /health 503, requests fail, and after so many seconds exit code 0."""

    name = "exit-zero-on-crash"
    form = "[SECONDS]"
    seconds: float = 4.9

    @classmethod
    def parse(cls, value: str) -> Self:
        return cls(_number(cls.name, value, "SECONDS")) if value else cls()


@dataclass(frozen=True)
class RefuseConnections(Fault):
    """No new connection is accepted; open ones go on (clear the fault through one of those)."""

    name = "refuse-connections"


KNOWN: dict[str, type[Fault]] = {
    kind.name: kind
    for kind in (
        ExitWhileLoading, NeverReady, Unhealthy, DieMidStream, ErrorMidStream, TruncatedStream, Http500,
        HangBeforeFirstToken, StallMidStream, SlowFirstToken, IgnoreSigterm, HangOnSigterm, ExitZeroOnCrash,
        RefuseConnections,
    )
}  # fmt: skip

F = TypeVar("F", bound=Fault)


def forms() -> list[str]:
    """Every fault as it is written, for help texts and error messages."""
    return [f"{kind.name}={kind.form}" if kind.form else kind.name for kind in KNOWN.values()]


class Faults:
    """The faults in force, at most one of a kind."""

    def __init__(self, specs: Iterable[str] = ()) -> None:
        """Read `specs`. Raises FaultError on the first that cannot be read, or that is given twice."""
        self._faults: dict[type[Fault], tuple[Fault, str]] = {}
        for spec in specs:
            name, _, value = spec.partition("=")
            kind = KNOWN.get(name)
            if kind is None:
                raise FaultError(f"unknown fault {name!r}; known: {', '.join(forms())}")
            if kind in self._faults:
                raise FaultError(f"{name} is given twice")
            self._faults[kind] = (kind.parse(value), spec)

    def get(self, kind: type[F]) -> F | None:
        """The fault of that kind, None when it is not in force."""
        found = self._faults.get(kind)
        return found[0] if found and isinstance(found[0], kind) else None

    def specs(self) -> list[str]:
        """The faults in force, as they were written."""
        return [spec for _, spec in self._faults.values()]
