"""The shared state as plain data: phases, models, requests in line and leases. Times are seconds on Redis's clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Phase(StrEnum):
    """asleep -> starting -> ready -> draining -> stopping -> asleep; failed after a start that did not work."""

    ASLEEP = "asleep"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"  # its gate is closed: what runs is finished, newcomers join the line
    STOPPING = "stopping"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CallerState:
    """What is known of one caller of one model. in_flight: its leases there. last_end: end of its last request there;
    None while one of its requests waits or runs there, and once it counts as gone.
    gaps: the learned histogram of its pauses (router.scheduling.gaps). service_seconds: learned, of its requests."""

    last_end: float | None = None
    in_flight: int = 0
    gaps: tuple[float, ...] = ()
    service_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ModelState:
    """What Redis knows of one model.

    since: when its phase began. last_used: end of its last request, or the last touch.
    wanted: when an admin asked for it, while that is not yet done. sleep: "", "drain" or "force".
    retry_at: a failed model is not started before. load_seconds and unload_seconds: learned, None before the first.
    service_seconds: learned length of one request. longest_load, longest_unload and longest_service: the longest of
    each that was seen lately. error and log: of the last failure.
    ready_at: when its present residency began to serve. gaps: the pauses of all its callers together.
    measured_memory: learned bytes that it takes of each of its GPUs, None before the first measured load.
    callers: those with a request in flight, and those whose last one ended too recently to count them as gone.
    """

    phase: Phase = Phase.ASLEEP
    since: float = 0.0
    in_flight: int = 0
    last_used: float = 0.0
    pinned: bool = False
    wanted: float | None = None
    sleep: str = ""
    failures: int = 0
    retry_at: float = 0.0
    load_seconds: float | None = None
    unload_seconds: float | None = None
    service_seconds: float | None = None
    longest_load: float | None = None
    longest_unload: float | None = None
    longest_service: float | None = None
    error: str = ""
    log: tuple[str, ...] = ()
    ready_at: float = 0.0
    gaps: tuple[float, ...] = ()
    callers: Mapping[str, CallerState] = field(default_factory=dict)
    measured_memory: int | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """One request in the line. caller: the hash of its key; alias: the key's name for people. priority and share: the
    key's, see router.scheduling.fairness."""

    id: str
    model: str
    joined: float
    caller: str = ""
    alias: str = ""
    worker: str = ""
    stream: bool = False
    priority: int = 0
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Lease:
    """One request in flight. joined: when it asked."""

    id: str
    model: str
    since: float
    joined: float = 0.0
    caller: str = ""
    alias: str = ""
    worker: str = ""
    stream: bool = False
    priority: int = 0
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Observation:
    """Something that the router learns from. kind: "pause" (infinite: the caller is gone) or "service"."""

    model: str
    caller: str
    kind: str
    seconds: float


@dataclass(frozen=True, slots=True)
class EndedRequest:
    """One request of the past. caller: the hash of its key. granted: when it got its lease; None when it never did.
    completed: whether it ran to its end. outcome: how it ended, in the words of `record` in
    router/store/scripts/prelude.lua; empty in records of older versions."""

    model: str
    caller: str
    joined: float
    granted: float | None
    ended: float
    completed: bool
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class FleetState:
    """One consistent read of everything that the scheduler decides on. `line` is oldest first. observations: how many
    wait to be learned from."""

    now: float
    models: dict[str, ModelState]
    line: tuple[Waiting, ...]
    observations: int = 0
