"""One simulated box: clients, the line, and engines that load, serve and stop as a policy decides."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from router.config import ModelSpec, Role
from router.scheduling import costs, gaps
from router.scheduling.decision import (
    Action,
    CloseGate,
    Decision,
    Grant,
    OpenGate,
    Refuse,
    Snapshot,
    Start,
    Stop,
)
from router.scheduling.policy import Policy
from router.simulator.clock import Clock
from router.simulator.workload import Session, SimulatedModel, Step
from router.store.state import CallerState, FleetState, ModelState, Phase, Waiting

_GPU = "0"
_ROOM = 1_000_000
_ROUNDS = 50


class Contender(Protocol):
    """A policy under test. open_door: whether a request for this ready model may pass the line; refuses: whether a
    request for this model is turned away now. Both see the snapshot without the request."""

    @property
    def name(self) -> str: ...

    @property
    def policy(self) -> Policy: ...

    def decide(self, snapshot: Snapshot) -> Decision: ...

    def open_door(self, snapshot: Snapshot, model: str) -> bool: ...

    def refuses(self, snapshot: Snapshot, model: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong. slow: a load takes between its learned time and this times as much. failing: share of the loads
    that fail at their end. leaving: share of the clients that hang up while they wait, after up to `patience` s."""

    seed: int = 0
    slow: float = 1.0
    failing: float = 0.0
    leaving: float = 0.0
    patience: float = 600.0


@dataclass(slots=True)
class Request:
    """A request on its way."""

    id: str
    session: Session
    index: int
    joined: float
    granted: float = 0.0

    @property
    def step(self) -> Step:
        return self.session.steps[self.index]


@dataclass(slots=True)
class Engine:
    """A model's state, changed in place. serving: requests that it works on; queue: those beyond its concurrency."""

    model: SimulatedModel
    phase: Phase = Phase.ASLEEP
    since: float = 0.0
    ready_at: float = 0.0
    last_used: float = 0.0
    in_flight: int = 0
    serving: int = 0
    load: int = 0
    queue: deque[Request] = field(default_factory=deque)
    service_seconds: float | None = None
    gaps: tuple[float, ...] = ()
    callers: dict[str, CallerState] = field(default_factory=dict)
    spans: list[tuple[float, Phase]] = field(default_factory=list)

    def state(self) -> ModelState:
        return ModelState(
            phase=self.phase,
            since=self.since,
            in_flight=self.in_flight,
            last_used=self.last_used,
            load_seconds=self.model.load_seconds,
            unload_seconds=self.model.unload_seconds,
            service_seconds=self.service_seconds,
            ready_at=self.ready_at,
            gaps=self.gaps,
            callers=self.callers,
        )


@dataclass(frozen=True, slots=True)
class History:
    """What happened. waits: of every request (s); given_up: of those that hung up or whose model failed to load.
    spans_of_sessions: the sessions that came to their end, and when. loads: the models in the order of their loads.
    spans: per model, the phases that it went through and since when."""

    waits: list[float]
    given_up: list[float]
    spans_of_sessions: list[tuple[Session, float]]
    loads: list[str]
    spans: dict[str, list[tuple[float, Phase]]]


class World:
    """Runs `sessions` on `models` under one contender."""

    def __init__(
        self,
        models: Sequence[SimulatedModel],
        sessions: Sequence[Session],
        contender: Contender,
        *,
        idle_timeout: float = 0.0,
        retry: float = 5.0,
        drain_timeout: float = 120.0,
        faults: Faults | None = None,
    ) -> None:
        self.clock = Clock()
        self.contender = contender
        self.specs = {
            model.name: _spec(model, idle_timeout, drain_timeout, (faults or Faults()).slow) for model in models
        }
        self.engines = {model.name: Engine(model) for model in models}
        self.line: dict[str, tuple[Waiting, Request]] = {}
        self._sessions = sessions
        self._retry = retry
        self._faults = faults or Faults()
        self._chance = random.Random(self._faults.seed)
        self._timer = 0
        self._history = History([], [], [], [], {})
        self._ids = 0

    def run(self) -> History:
        """The whole history, until every session has ended."""
        for session in self._sessions:
            self.clock.at(session.start, self._ask, session, 0)
        self.clock.run()
        if self.line:
            raise RuntimeError(f"{self.contender.name} leaves {len(self.line)} requests waiting for ever")
        self._history.spans.update({name: engine.spans for name, engine in self.engines.items()})
        return self._history

    def snapshot(self) -> Snapshot:
        states = {name: engine.state() for name, engine in self.engines.items()}
        line = tuple(waiting for waiting, _ in self.line.values())
        return Snapshot(self.specs, {_GPU: _ROOM}, FleetState(self.clock.now, states, line), self.contender.policy)

    # --- clients

    def _ask(self, session: Session, index: int) -> None:
        self._ids += 1
        request = Request(f"r{self._ids}", session, index, self.clock.now)
        engine = self.engines[request.step.model]
        caller = engine.callers.get(session.caller)
        if caller is not None and caller.last_end is not None:
            gap = self.clock.now - caller.last_end
            engine.gaps = gaps.observe(engine.gaps, gap, gaps.POOL_MEMORY)
            engine.callers[session.caller] = CallerState(None, 0, gaps.observe(caller.gaps, gap, gaps.CALLER_MEMORY))
        self._knock(request)

    def _knock(self, request: Request) -> None:
        name = request.step.model
        engine = self.engines[name]
        snapshot = None
        if engine.phase is Phase.READY and (
            not self.line or self.contender.open_door(snapshot := self.snapshot(), name)
        ):
            self._grant(request)
            if self.line:
                self._settle()
            return
        if self.contender.refuses(snapshot or self.snapshot(), name):
            self.clock.at(self.clock.now + self._retry, self._knock, request)
            return
        waiting = Waiting(request.id, name, request.joined, request.session.caller)
        self.line[request.id] = (waiting, request)
        if self._chance.random() < self._faults.leaving:
            self.clock.at(self.clock.now + self._chance.uniform(0, self._faults.patience), self._hang_up, request)
        self._settle()

    def _hang_up(self, request: Request) -> None:
        if self.line.pop(request.id, None) is not None:
            self._history.given_up.append(self.clock.now - request.joined)
            self._settle()

    def _grant(self, request: Request) -> None:
        request.granted = self.clock.now
        self._history.waits.append(request.granted - request.joined)
        engine = self.engines[request.step.model]
        engine.in_flight += 1
        known = engine.callers.get(request.session.caller, CallerState())
        engine.callers[request.session.caller] = CallerState(None, known.in_flight + 1, known.gaps)
        if engine.serving < engine.model.concurrency:
            self._serve(engine, request)
        else:
            engine.queue.append(request)

    def _serve(self, engine: Engine, request: Request) -> None:
        engine.serving += 1
        seconds = engine.model.service_seconds(request.step.context, request.step.generated)
        self.clock.at(self.clock.now + seconds, self._answered, engine, request)

    def _answered(self, engine: Engine, request: Request) -> None:
        now = self.clock.now
        engine.serving -= 1
        engine.in_flight -= 1
        engine.last_used = now
        ran = now - request.granted
        engine.service_seconds = costs.average(engine.service_seconds, ran)
        caller = engine.callers[request.session.caller]
        engine.callers[request.session.caller] = CallerState(
            None if caller.in_flight > 1 else now, caller.in_flight - 1, caller.gaps
        )
        self.clock.at(now + gaps.HORIZON, self._forget, engine, request.session.caller)
        if engine.queue:
            self._serve(engine, engine.queue.popleft())
        if request.index + 1 < len(request.session.steps):
            pause = request.session.steps[request.index + 1].pause
            self.clock.at(now + pause, self._ask, request.session, request.index + 1)
        else:
            self._history.spans_of_sessions.append((request.session, now))
        if self.line:
            self._settle()

    def _forget(self, engine: Engine, name: str) -> None:
        caller = engine.callers.get(name)
        if caller and caller.last_end is not None and caller.last_end <= self.clock.now - gaps.HORIZON:
            engine.gaps = gaps.observe(engine.gaps, float("inf"), gaps.POOL_MEMORY)
            engine.callers[name] = CallerState(None, 0, gaps.observe(caller.gaps, float("inf"), gaps.CALLER_MEMORY))

    # --- decisions

    def _settle(self) -> None:
        for _ in range(_ROUNDS):
            snapshot = self.snapshot()
            decision = self.contender.decide(snapshot)
            for action in decision.actions:
                self._apply(action)
            if not decision.actions:
                self._look_again(decision.look_again_at)
                return
        raise RuntimeError(f"{self.contender.name} does not come to rest: {decision.actions}")

    def _look_again(self, at: float | None) -> None:
        self._timer += 1
        if at is not None:
            self.clock.at(at, self._on_timer, self._timer)

    def _on_timer(self, timer: int) -> None:
        if timer == self._timer:
            self._settle()

    def _apply(self, action: Action) -> None:
        engine = self.engines[action.model]
        match action:
            case Grant(_, ids):
                for each in ids:
                    self._grant(self.line.pop(each)[1])
            case Start():
                self._history.loads.append(action.model)
                self._enter(engine, Phase.STARTING)
                seconds = engine.model.load_seconds * self._chance.uniform(1.0, self._faults.slow)
                works = self._chance.random() >= self._faults.failing
                engine.load += 1
                self.clock.at(self.clock.now + seconds, self._loaded, engine, engine.load, works)
            case Stop():
                if engine.in_flight:
                    raise RuntimeError(f"{self.contender.name} cuts off {engine.in_flight} requests")
                self._enter(engine, Phase.STOPPING)
                self.clock.at(self.clock.now + engine.model.unload_seconds, self._stopped, engine)
            case CloseGate():
                self._enter(engine, Phase.DRAINING)
            case OpenGate():
                self._enter(engine, Phase.READY)
            case Refuse(name, _):
                raise RuntimeError(f"{name} never fits")

    def _enter(self, engine: Engine, phase: Phase) -> None:
        engine.phase, engine.since = phase, self.clock.now
        engine.spans.append((self.clock.now, phase))

    def _loaded(self, engine: Engine, load: int, works: bool) -> None:
        if engine.phase is not Phase.STARTING or engine.load != load:
            return  # it was broken off
        if not works:
            self._fail(engine)
            return
        self._enter(engine, Phase.READY)
        engine.ready_at = engine.last_used = self.clock.now
        self._settle()

    def _fail(self, engine: Engine) -> None:
        """Everybody who waits for it is told."""
        self._enter(engine, Phase.ASLEEP)
        told = [each for each, (waiting, _) in self.line.items() if waiting.model == engine.model.name]
        for each in told:
            self._history.given_up.append(self.clock.now - self.line.pop(each)[1].joined)
        self._settle()

    def _stopped(self, engine: Engine) -> None:
        self._enter(engine, Phase.ASLEEP)
        self._settle()


def _spec(model: SimulatedModel, idle_timeout: float, drain_timeout: float, slow: float) -> ModelSpec:
    return ModelSpec(
        name=model.name,
        api_base="http://model.invalid/v1",
        health_url="http://model.invalid/health",
        container=model.name,
        command=None,
        environment={},
        gpus=(_GPU,),
        memory=round(model.memory * _ROOM),
        role=Role.NORMAL,
        idle_timeout=idle_timeout,
        start_timeout=model.load_seconds * slow,
        stop_timeout=max(model.unload_seconds, 1e-6),
        drain_timeout=drain_timeout,
    )
