"""One simulated box: clients, the line, and engines that load, serve and stop as a policy decides."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from router.scheduling import gaps
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
from router.scheduling.fairness import Turns
from router.scheduling.policy import Policy
from router.settings import Role
from router.simulator.clock import Clock
from router.simulator.engine import Engine
from router.simulator.fleet import Fleet
from router.simulator.history import History, Request
from router.simulator.workload import Session
from router.store.state import FleetState, Phase, Waiting

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


class World:
    """Runs `sessions` on a fleet under one contender. retry: after so many seconds a refused client asks again."""

    def __init__(
        self,
        fleet: Fleet,
        sessions: Sequence[Session],
        contender: Contender,
        *,
        retry: float = 5.0,
        faults: Faults | None = None,
    ) -> None:
        self.clock = Clock()
        self.contender = contender
        self.fleet = fleet
        self.engines = {name: Engine(model) for name, model in fleet.models.items()}
        self.line: dict[str, tuple[Waiting, Request]] = {}
        self._sessions = sessions
        self._retry = retry
        self._faults = faults or Faults()
        self._chance = random.Random(self._faults.seed)
        self._turns: dict[str, Turns] = {}
        #: By caller, when its last request ended that has waited, and for which model.
        self._moved: dict[str, tuple[float, str]] = {}
        self._timer = 0
        self._history = History(spans={name: [] for name in fleet.models})
        self._ids = 0

    def run(self, watch: Callable[[int], None] = lambda _: None) -> History:
        """The whole history, until every session has ended. watch: told now and then how many requests have."""
        if any(spec.role is Role.UTILITY for spec in self.fleet.specs.values()):
            self.clock.at(0.0, self._settle)
        for session in self._sessions:
            self.clock.at(session.start, self._ask, session, 0)
        self.clock.run(lambda: watch(len(self._history.requests)))
        if self.line:
            raise RuntimeError(f"{self.contender.name} leaves {len(self.line)} requests waiting for ever")
        return self._history

    def snapshot(self) -> Snapshot:
        """What the policy decides on."""
        states = {name: engine.state() for name, engine in self.engines.items()}
        line = tuple(waiting for waiting, _ in self.line.values())
        state = FleetState(self.clock.now, states, line)
        return Snapshot(self.fleet.specs, self.fleet.room, state, self.contender.policy, self._turns)

    # --- clients

    def _ask(self, session: Session, index: int) -> None:
        self._ids += 1
        request = Request(f"r{self._ids}", session, index, self.clock.now)
        ended, other = self._moved.get(session.caller, (0.0, ""))
        moved = ended if other != request.step.model else 0.0
        self.engines[request.step.model].asked(session.caller, self.clock.now, moved)
        patience = request.step.patience
        if patience is None and self._chance.random() < self._faults.leaving:
            patience = self._chance.uniform(0, self._faults.patience)
        self._knock(request)
        if patience is not None and request.granted is None:
            self.clock.at(self.clock.now + patience, self._hang_up, request)

    def _knock(self, request: Request) -> None:
        if request.ended is not None:
            return  # its client has given up between two tries
        name = request.step.model
        engine = self.engines[name]
        snapshot = None
        unlimited = not self.line and self.fleet.specs[name].parallel is None
        if engine.phase is Phase.READY and (unlimited or self.contender.open_door(snapshot := self.snapshot(), name)):
            self._grant(request)
            if self.line:
                self._settle()
        elif engine.cools_down(self.clock.now):
            self._give_up(request)
        elif self.contender.refuses(snapshot or self.snapshot(), name):
            self.clock.at(self.clock.now + self._retry, self._knock, request)
        else:
            waiting = Waiting(request.id, name, request.joined, request.session.caller)
            self.line[request.id] = (waiting, request)
            self._settle()

    def _hang_up(self, request: Request) -> None:
        if request.granted is None and request.ended is None:
            self._give_up(request)
            if self.line.pop(request.id, None) is not None:
                self._settle()

    def _give_up(self, request: Request) -> None:
        request.ended = self.clock.now
        self._history.requests.append(request)

    def _grant(self, request: Request) -> None:
        request.granted = self.clock.now
        engine = self.engines[request.step.model]
        engine.begin(request)
        if request.step.seconds is not None or engine.serving < engine.model.concurrency:
            self._serve(engine, request)
        else:
            engine.queue.append(request)

    def _serve(self, engine: Engine, request: Request) -> None:
        if request.step.seconds is None:
            engine.serving += 1
        self.clock.at(self.clock.now + request.step.service_seconds(engine.model), self._answered, engine, request)

    def _answered(self, engine: Engine, request: Request) -> None:
        if request.ended is not None:
            return  # it was cut off
        if request.step.seconds is None:
            engine.serving -= 1
        self._end(engine, request)
        if engine.queue and engine.serving < engine.model.concurrency:
            self._serve(engine, engine.queue.popleft())
        if self.line:
            self._settle()

    def _end(self, engine: Engine, request: Request) -> None:
        """The request leaves its engine, and its client goes on."""
        now = self.clock.now
        engine.end(request, now)
        request.ended = now
        if request.granted is not None and request.granted > request.joined:
            self._moved[request.session.caller] = now, request.step.model
        self._history.requests.append(request)
        self.clock.at(now + gaps.HORIZON, self._forget, engine, request.session.caller)
        if request.index + 1 < len(request.session.steps):
            pause = request.session.steps[request.index + 1].pause
            self.clock.at(now + pause, self._ask, request.session, request.index + 1)
        else:
            self._history.sessions.append((request.session, now))

    def _forget(self, engine: Engine, caller: str) -> None:
        engine.forget(caller, self.clock.now)

    # --- decisions

    def _settle(self) -> None:
        for _ in range(_ROUNDS):
            decision = self.contender.decide(self.snapshot())
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
            case Grant(name, ids, turns):
                self._turns[name] = turns
                for each in ids:
                    self._grant(self.line.pop(each)[1])
            case Start():
                self._history.loads.append(action.model)
                self._enter(engine, Phase.STARTING)
                seconds = engine.model.load_seconds * self._chance.uniform(1.0, self._faults.slow)
                works = self._chance.random() >= self._faults.failing
                engine.load += 1
                self.clock.at(self.clock.now + seconds, self._loaded, engine, engine.load, works)
            case Stop(_, _, force):
                if engine.leases and not force:
                    raise RuntimeError(f"{self.contender.name} cuts off {len(engine.leases)} requests")
                self._enter(engine, Phase.STOPPING)
                self._cut_off(engine)
                self.clock.at(self.clock.now + engine.model.unload_seconds, self._stopped, engine)
            case CloseGate():
                self._enter(engine, Phase.DRAINING)
            case OpenGate():
                self._enter(engine, Phase.READY)
            case Refuse(name, _):
                raise RuntimeError(f"{name} never fits")

    def _cut_off(self, engine: Engine) -> None:
        """The drain limit has passed for what still runs. Its clients go on as after an answer."""
        engine.queue.clear()
        engine.serving = 0
        for request in [*engine.leases.values()]:
            request.cut_off = True
            self._end(engine, request)

    def _enter(self, engine: Engine, phase: Phase) -> None:
        engine.enter(phase, self.clock.now)
        self._history.spans[engine.model.name].append((self.clock.now, phase))

    def _loaded(self, engine: Engine, load: int, works: bool) -> None:
        if engine.phase is not Phase.STARTING or engine.load != load:
            return  # it was broken off
        if works:
            self._enter(engine, Phase.READY)
        else:
            self._fail(engine)
        self._settle()

    def _fail(self, engine: Engine) -> None:
        """Everybody who waits for it is told."""
        self._enter(engine, Phase.FAILED)
        for each in [each for each, (waiting, _) in self.line.items() if waiting.model == engine.model.name]:
            self._give_up(self.line.pop(each)[1])

    def _stopped(self, engine: Engine) -> None:
        self._enter(engine, Phase.ASLEEP)
        self._settle()
