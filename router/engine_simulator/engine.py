"""The engine itself: what runs, what waits while it sleeps, what ends early, and what there is to count."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal

from router.engine_simulator import faults as fault
from router.engine_simulator.faults import Faults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from router.engine_simulator.options import Options

log = logging.getLogger("engine")

SleepMode = Literal["abort", "wait", "keep"]
Outcome = Literal["running", "completed", "aborted", "error"]

_REMEMBERED: Final = 20_000
"""Requests kept in the list of seen requests."""
_MEMORY_PARTS: Final = frozenset({"weights", "kv_cache"})


class EngineDeadError(Exception):
    """The engine ended while the request was in it."""

    def __init__(self) -> None:
        super().__init__("EngineCore encountered an issue. See stack trace (above) for the root cause.")


class GenerationFailedError(Exception):
    """One request failed; the engine lives on."""

    def __init__(self) -> None:
        super().__init__("Internal server error")


class ConnectionCutError(Exception):
    """The connection shall be closed in the middle of the answer."""


class Interruption(Enum):
    """Why a request in the engine ends before it is done."""

    ABORTED = "aborted"
    """Dropped by a sleep: the caller gets what there is, as a normal answer with the reason `abort`."""
    DEAD = "dead"
    """The engine ended: the caller gets an error."""


@dataclass(eq=False)
class Record:
    """One inference request as tests see it. Times are unix seconds; never a word of the prompt."""

    id: str
    path: str
    arrived: float
    finished: float | None = None
    outcome: Outcome = "running"
    tokens: int = 0
    """Tokens produced so far, over all choices."""
    interruption: asyncio.Future[Interruption] = field(repr=False, kw_only=True)

    def document(self) -> dict[str, object]:
        """The record as JSON data."""
        return {"id": self.id, "path": self.path, "arrived": self.arrived, "finished": self.finished,
                "outcome": self.outcome, "tokens": self.tokens}  # fmt: skip


class Engine:
    """A pretended engine. It belongs to one event loop; none of its methods may be called from another thread."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.faults = Faults(options.faults)
        self.ready_at: float | None = None
        """Unix time of the first possible healthy answer, None while loading."""
        self.asleep = False
        self.dead = False
        self.running: set[Record] = set()
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.finished: Counter[str] = Counter()
        """Requests that ended, by finish reason."""
        self._records: deque[Record] = deque(maxlen=_REMEMBERED)
        self._open: set[Record] = set()
        self._closed_parts: set[str] = set()
        self._admitting: asyncio.Future[None] | None = None
        """Set while new requests are held; done when they may enter."""
        self._scheduling: asyncio.Future[None] | None = None
        """Set while nothing is computed; done when work goes on."""
        self._changed = asyncio.Event()

    @property
    def healthy(self) -> bool:
        """Whether /health would say so."""
        return self.ready_at is not None and not self.dead and self.faults.get(fault.Unhealthy) is None

    def set_faults(self, specs: Iterable[str]) -> None:
        """Replace all faults in force. Raises FaultError, and then changes nothing."""
        self.faults = Faults(specs)
        log.info("Faults in force: %s", ", ".join(self.faults.specs()) or "none")

    def records(self) -> list[Record]:
        """The requests seen, oldest first."""
        return list(self._records)

    def begin(self, request_id: str, path: str) -> Record:
        """Note a request that has arrived; `end` must follow, however it ends."""
        record = Record(request_id, path, time.time(), interruption=asyncio.get_running_loop().create_future())
        self._records.append(record)
        self._open.add(record)
        return record

    def end(self, record: Record, outcome: Outcome, reason: str) -> None:
        """Note the end of a request with its finish reason (`stop`, `length`, `abort`, `error`)."""
        self._open.discard(record)
        record.finished = time.time()
        record.outcome = outcome
        self.finished[reason] += 1

    async def steps(self, record: Record, *, prompt_tokens: int, length: int, width: int = 1) -> AsyncIterator[int]:
        """Yield 0 .. length - 1, each when that token is due; `width` choices grow by one token at each step.

        Ends early when the request is aborted (`record.interruption` is then done). Raises EngineDeadError,
        GenerationFailedError or ConnectionCutError when the engine or a fault ends it.
        """
        if not await self._until_open(record, admission=True):
            return
        self.running.add(record)
        try:
            self.prompt_tokens += prompt_tokens
            if self.faults.get(fault.HangBeforeFirstToken):
                await self._pause(record, None)
            slow = self.faults.get(fault.SlowFirstToken)
            due = time.monotonic() + prompt_tokens / self.options.prefill_tokens_per_second
            due += slow.seconds if slow else 0.0
            await self._pause(record, due - time.monotonic())
            for step in range(length):
                self._strike(record, step)
                if (stall := self.faults.get(fault.StallMidStream)) and step >= stall.tokens:
                    await self._pause(record, None)
                due += 1 / self.options.tokens_per_second
                await self._pause(record, due - time.monotonic())
                if self._scheduling is not None:
                    frozen_at = time.monotonic()
                    await self._until_open(record, admission=False)
                    due += time.monotonic() - frozen_at
                if record.interruption.done():
                    return
                record.tokens += width
                self.generation_tokens += width
                yield step
            self._strike(record, length)
        finally:
            self.running.discard(record)
            self._changed.set()

    async def sleep(self, mode: SleepMode) -> None:
        """Stop scheduling; returns when nothing computes any more. New requests are held until `wake_up`."""
        loop = asyncio.get_running_loop()
        self._admitting = self._admitting or loop.create_future()
        if mode != "wait":
            self._scheduling = self._scheduling or loop.create_future()
        if mode == "abort":
            for record in self.running:
                self._interrupt(record, Interruption.ABORTED)
        while mode != "keep" and self.running and self._is_admitting_held():
            self._changed.clear()
            await self._changed.wait()
        if not self._is_admitting_held():
            return  # woken up before it slept
        self._scheduling = self._scheduling or loop.create_future()
        self._closed_parts = set(_MEMORY_PARTS)
        self.asleep = True
        log.info("Asleep (mode=%s)", mode)

    def wake_up(self, tags: list[str] | None) -> bool:
        """Wake the parts of the memory named in `tags` (None: all). True when the engine is awake afterwards."""
        self._closed_parts -= _MEMORY_PARTS if tags is None else set(tags)
        if not self._closed_parts:
            for held in (self._admitting, self._scheduling):
                if held is not None and not held.done():
                    held.set_result(None)
            self._admitting = self._scheduling = None
            self.asleep = False
            self._changed.set()
            log.info("Awake")
        return not self.asleep

    def die(self) -> None:
        """End the engine: /health turns bad and every request in it, held ones included, fails."""
        self.dead = True
        if not self.faults.get(fault.HangOnSigterm):
            for record in self._open:
                self._interrupt(record, Interruption.DEAD)
        elif self._scheduling is None:
            self._scheduling = asyncio.get_running_loop().create_future()

    def _is_admitting_held(self) -> bool:
        return self._admitting is not None

    def _strike(self, record: Record, produced: int) -> None:
        """Carry out the faults that count tokens."""
        if (cut := self.faults.get(fault.TruncatedStream)) and produced >= cut.tokens:
            raise ConnectionCutError
        if (error := self.faults.get(fault.ErrorMidStream)) and produced >= error.tokens:
            raise GenerationFailedError
        if (death := self.faults.get(fault.DieMidStream)) and produced >= death.tokens:
            log.error("Fatal error while %s was running", record.id)
            logging.shutdown()
            os._exit(death.code)

    @staticmethod
    def _interrupt(record: Record, reason: Interruption) -> None:
        if not record.interruption.done():
            record.interruption.set_result(reason)

    async def _pause(self, record: Record, seconds: float | None) -> None:
        """Wait, without a limit when `seconds` is None, or less when the request is interrupted."""
        if seconds is None or seconds > 0:
            await asyncio.wait((record.interruption,), timeout=seconds)
        else:
            await asyncio.sleep(0)
        if record.interruption.done() and record.interruption.result() is Interruption.DEAD:
            raise EngineDeadError

    async def _until_open(self, record: Record, *, admission: bool) -> bool:
        """Wait while requests are held or work is frozen; False when the request was aborted meanwhile."""
        if self.dead and not self.faults.get(fault.HangOnSigterm):
            raise EngineDeadError
        while (held := self._admitting if admission else self._scheduling) is not None:
            await asyncio.wait((record.interruption, held), return_when=asyncio.FIRST_COMPLETED)
            if record.interruption.done():
                break
        await self._pause(record, 0)
        return not record.interruption.done()
