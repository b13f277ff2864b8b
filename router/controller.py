"""The one loop that acts: read a snapshot, decide, carry out, wait for something to change.

While it holds the GPU lock, a controller owns five tasks (rounds, lock renewal, nudges, runtime events, dead workers)
and one for each engine that is being started or stopped. When the lock or Redis is lost all of them end, the engines go
on, and the next holder takes everything up from what Redis and the runtime say.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Coroutine
from typing import Any

from router import scheduler
from router.config import Config, ModelSpec
from router.errors import (
    EngineMissing,
    Fenced,
    HearthError,
    ModelNeverFits,
    RuntimeUnavailable,
    ServiceUnavailable,
    StoreUnavailable,
)
from router.expectations import Expectations
from router.gpu_lock import RENEWAL, GpuLock
from router.learning import Learning
from router.memory.engine_memory import EngineMemory
from router.metrics.rounds import Rounds
from router.operations import Operation, Operations
from router.readiness import Probe
from router.runtimes.base import Exited, Instance, Lost, Regained, Runtime, Started
from router.scheduler import CloseGate, Grant, OpenGate, Outlook, Refuse, Snapshot, Start, Stop
from router.scheduling.fairness import Turns
from router.store.fleet import FleetStore
from router.store.state import FleetState, ModelState, Phase

log = logging.getLogger(__name__)

#: Seconds between two tries to take the lock, between two looks for dead workers, and between two rounds while the
#: runtime cannot be asked.
_STANDBY_PAUSE = 0.3
_VOID_INTERVAL = 2.0
_TROUBLE_PAUSE = 1.0
#: A nudge can be lost with its connection, so the state is looked at this often (s) whatever happens.
_LONGEST_PAUSE = 5.0
_NOT_ASKED = "the runtime has not been asked yet"


class LockLost(HearthError):
    """Another router acts now, or this one could not renew its lock in time."""


class Controller:
    """Runs the fleet while it holds the lock; stands by otherwise."""

    def __init__(self, config: Config, store: FleetStore, runtime: Runtime, probe: Probe, memory: EngineMemory) -> None:
        self._specs = config.models
        self._settings = config.settings
        self._room = {name: gpu.room for name, gpu in config.settings.gpus.items()}
        self._store = store
        self._runtime = runtime
        self.lock = GpuLock(store, secrets.token_hex(6))
        self._operations = Operations(config, store, self.lock, runtime, probe, memory, self._note_trouble)
        self._running: dict[str, Operation] = {}
        self._suspects: set[str] = set()  # models whose engine may have changed while its operation ended: to inspect
        self._stir = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self.trouble = _NOT_ASKED
        self._watching = False
        self._policy = config.settings.scheduling.policy
        self._learning = Learning(store, list(config.models))
        self.rounds = Rounds()
        self._turns: dict[str, Turns] = {}
        self._expectations = Expectations()

    async def run(self) -> None:
        """Act whenever the lock can be had, until cancelled."""
        try:
            while True:
                await self._act_once()
                await asyncio.sleep(_STANDBY_PAUSE)
        finally:
            with contextlib.suppress(StoreUnavailable):
                await self.lock.drop()

    async def _act_once(self) -> None:
        try:
            if not await self.lock.take():
                return
            log.info("acting as %s", self.lock.holder)
            # In a task of its own: in Python before 3.13 a task group that fails leaves its task marked as cancelled.
            acting = asyncio.create_task(self._act(), name="controller-act")
            try:
                await asyncio.wait({acting})
            finally:
                acting.cancel()
                await asyncio.wait({acting})
            acting.result()
        except* (StoreUnavailable, Fenced, LockLost) as group:
            log.warning("standing by: %s", "; ".join(str(error) for error in _leaves(group)))
            self.lock.forget()

    async def _act(self) -> None:
        self._running.clear()
        self._suspects.clear()
        self._expectations.forget()
        self.trouble, self._watching = _NOT_ASKED, False
        await self._learning.load()
        async with asyncio.TaskGroup() as self._group:
            for task in (self._keep_lock, self._heed_nudges, self._watch_runtime, self._void_workers, self._rounds):
                self._group.create_task(task(), name=f"controller{task.__name__}")

    # --- rounds

    async def _rounds(self) -> None:
        while True:
            pause = min(await self._round(), _LONGEST_PAUSE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stir.wait()
            self._stir.clear()

    async def _round(self) -> float:
        """One decision, carried out. Returns the seconds until the next one is due by itself."""
        state = await self._store.snapshot(list(self._specs))
        await self._learning.take(self.lock.holder, state)
        snapshot = self._snapshot(self._learning.enrich(state))
        with self.rounds.deciding():
            decision = scheduler.decide(snapshot)
        actions: list[scheduler.Action] = list(decision.actions)
        await self._refuse_unknown_models(state)
        if self.trouble:
            if self.trouble != _NOT_ASKED:
                await self._refuse_what_needs_the_runtime(state)
            actions = [action for action in actions if isinstance(action, Grant | OpenGate | Refuse)]
        else:
            self._take_up(state)
        for action in actions:
            await self._carry_out(action, state)
            self.rounds.carried_out(action)
        if actions:
            self._stir.set()
        await self._tell_expectations(snapshot)
        if self.trouble and self._watching:
            await self._reconcile(list(self._specs))
        elif self._suspects:
            await self._reconcile(sorted(self._suspects))
        if self.trouble:
            return _TROUBLE_PAUSE
        return _LONGEST_PAUSE if decision.look_again_at is None else decision.look_again_at - state.now

    def outlook(self, state: FleetState) -> Outlook:
        """What callers are told in this state, with all that this router has learned."""
        return scheduler.outlook(self._snapshot(self._learning.enrich(state)))

    def _snapshot(self, state: FleetState) -> Snapshot:
        wishes = scheduler.warm(self._settings, self._specs, state)
        return Snapshot(self._specs, self._room, state, self._policy, self._turns, wishes)

    async def _carry_out(self, action: scheduler.Action, state: FleetState) -> None:
        holder, name = self.lock.holder, action.model
        match action:
            case Grant(_, requests, turns):
                await self._store.grant(holder, name, requests, self._specs[name].parallel or 0)
                self._turns[name] = turns
            case Start(_, reason):
                await self._store.move(
                    holder,
                    name,
                    [Phase.ASLEEP, Phase.FAILED],
                    Phase.STARTING,
                    event="starting",
                    detail=reason,
                    fields={"sleep": ""},
                )
            case Stop(_, reason, force):
                loading = state.models[name].phase is Phase.STARTING
                stopping = await self._store.move(
                    holder,
                    name,
                    [Phase.STARTING, Phase.READY, Phase.DRAINING],
                    Phase.STOPPING,
                    event="stopping",
                    detail=reason,
                    idle=not force,
                    fields={} if loading else {"failures": 0},
                )
                operation = self._running.get(name)
                if stopping and operation and operation.kind is Phase.STARTING and operation.task:
                    operation.task.cancel()  # the stop begins when this has ended
            case CloseGate(_, reason):
                await self._store.move(holder, name, [Phase.READY], Phase.DRAINING, event="draining", detail=reason)
            case OpenGate():
                await self._store.move(holder, name, [Phase.DRAINING], Phase.READY, event="reopened")
            case Refuse(_, requests):
                await self._store.refuse(holder, ModelNeverFits.of(name), requests)

    def _take_up(self, state: FleetState) -> None:
        """Begin the operation that a phase calls for, if none is under way: new ones and those of an earlier router."""
        for name, model in state.models.items():
            if name in self._running:
                continue
            if model.phase is Phase.STARTING:
                operation = Operation(Phase.STARTING)
                self._begin(name, operation, self._operations.start(self._specs[name], model, operation))
            elif model.phase is Phase.STOPPING:
                self._begin(name, Operation(Phase.STOPPING), self._operations.stop(self._specs[name], model))

    def _begin(self, name: str, operation: Operation, work: Coroutine[Any, Any, None]) -> None:
        if self._group is None:
            raise RuntimeError("operations run only while this router acts")
        operation.task = self._group.create_task(work, name=f"{operation.kind}-{name}")
        self._running[name] = operation

        def done(_: asyncio.Task[None]) -> None:
            if self._running.get(name) is operation:
                del self._running[name]
            if operation.exited.is_set():
                self._suspects.add(name)
            self._stir.set()

        operation.task.add_done_callback(done)

    async def _refuse_unknown_models(self, state: FleetState) -> None:
        unknown = [request.id for request in state.line if request.model not in self._specs]
        if unknown:
            message = (
                "The gateway knows a model that the router does not: restart both after a change of configuration."
            )
            await self._store.refuse(self.lock.holder, ServiceUnavailable(message, retry_after=30.0), unknown)

    async def _refuse_what_needs_the_runtime(self, state: FleetState) -> None:
        await self._store.set_trouble(self.lock.holder, self.trouble)
        loading = {name for name, operation in self._running.items() if operation.kind is Phase.STARTING}
        able = {name for name, model in state.models.items() if model.phase in (Phase.READY, Phase.DRAINING)} | loading
        stuck = [request.id for request in state.line if request.model in state.models and request.model not in able]
        if stuck:
            message = f"No model can be woken now: {self.trouble}."
            await self._store.refuse(self.lock.holder, ServiceUnavailable(message, retry_after=5.0), stuck)

    async def _tell_expectations(self, snapshot: Snapshot) -> None:
        """Write when each model is expected to answer, for callers to be told."""
        for name, fields in self._expectations.changes(snapshot, scheduler.outlook(snapshot)).items():
            await self._store.set_fields(name, fields)

    # --- what happens outside

    async def _keep_lock(self) -> None:
        while True:
            await asyncio.sleep(RENEWAL)
            if not await self.lock.keep():
                raise LockLost("the GPU lock was lost")

    async def _heed_nudges(self) -> None:
        async for _ in self._store.nudges():
            self._stir.set()

    async def _void_workers(self) -> None:
        while True:
            if voided := await self._store.void_dead_workers():
                log.warning("ended %d requests of gateway workers that are gone", voided)
            await asyncio.sleep(_VOID_INTERVAL)

    async def _watch_runtime(self) -> None:
        async for event in self._runtime.watch():
            match event:
                case Regained():
                    self._watching = True
                    await self._reconcile(list(self._specs))
                case Lost(reason):
                    self._watching = False
                    self._note_trouble(reason)
                    await self._store.set_trouble(self.lock.holder, reason)
                case Started(name):
                    await self._reconcile([name])
                case Exited(name, _):
                    await self._on_exit(name)

    def _note_trouble(self, reason: str) -> None:
        if self.trouble in ("", _NOT_ASKED):
            self._stir.set()
        self.trouble = reason

    async def _on_exit(self, name: str) -> None:
        if operation := self._running.get(name):
            operation.exited.set()
            return
        state = await self._store.snapshot([name])
        if state.models[name].phase in (Phase.READY, Phase.DRAINING):
            await self._operations.ended(self._specs[name], state.models[name], state.now)
            self._stir.set()

    async def _reconcile(self, names: list[str]) -> None:
        """Bring the phases in line with what really runs. Nothing is started while this is not done."""
        self._suspects.difference_update(names)
        try:
            instances = {name: await self._inspect(self._specs[name]) for name in names}
        except RuntimeUnavailable as error:
            self._note_trouble(str(error))
            return
        for name, instance in instances.items():
            if operation := self._running.get(name):
                operation.exited.set()
                continue
            state = await self._store.snapshot(list(self._specs))
            await self._adopt(name, instance, state)
        if self._watching and set(names) == set(self._specs):
            self.trouble = ""
            await self._store.set_trouble(self.lock.holder, "")
        self._stir.set()

    async def _inspect(self, spec: ModelSpec) -> Instance:
        try:
            return await self._runtime.inspect(spec)
        except EngineMissing as error:
            log.warning("%s: %s", spec.name, error)
            return Instance(running=False)

    async def _adopt(self, name: str, instance: Instance, state: FleetState) -> None:
        """Bring a model's phase in line with its engine: one that is gone has ended, and one that runs although the
        phase says otherwise, or that was restarted past this router, is taken over or stopped."""
        model, spec = state.models[name], self._specs[name]
        if not instance.running:
            if model.phase in (Phase.READY, Phase.DRAINING):
                await self._operations.ended(spec, model, state.now)
            return
        restarted = instance.started_at is not None and instance.started_at > model.since + 1.0
        if model.phase in (Phase.READY, Phase.DRAINING) and not restarted:
            return
        if model.phase in (Phase.STARTING, Phase.STOPPING):
            return  # the next round takes it up
        target, detail = _place_for(name, model, self._snapshot(state))
        fields = {"sleep": ""} if target is Phase.STARTING else {}
        await self._store.move(
            self.lock.holder, name, [model.phase], target, event="adopted", detail=detail, fields=fields
        )


def _place_for(name: str, model: ModelState, snapshot: Snapshot) -> tuple[Phase, str]:
    """What becomes of an engine that somebody else has started."""
    if model.phase in (Phase.READY, Phase.DRAINING):
        return Phase.STARTING, "it was restarted by somebody else"
    if scheduler.fits_now(snapshot, name):
        return Phase.STARTING, "it was running already"
    return Phase.STOPPING, "it was started by somebody else and does not fit beside what runs"


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    leaves: list[BaseException] = []

    def visit(error: BaseException) -> None:
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                visit(inner)
        else:
            leaves.append(error)

    visit(group)
    return leaves
