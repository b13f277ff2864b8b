"""What holds in every history: the scheduler drives a small pure model of the world that hypothesis stirs."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from fleet import fit_together, spec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from router.scheduler import (
    STRICT,
    Action,
    CloseGate,
    Decision,
    Grant,
    OpenGate,
    Policy,
    Refuse,
    Snapshot,
    Start,
    Stop,
    Warm,
    Wish,
    decide,
)
from router.scheduling.costs import ASSUMED_LOAD, ASSUMED_UNLOAD
from router.scheduling.turns import patience
from router.scheduling.warm import Strength
from router.settings import Role
from router.store.state import CallerState, FleetState, ModelState, Phase, Waiting

pytestmark = pytest.mark.timeout(120)

ROOM = {"0": 10, "1": 10}
HOLDING = {Phase.STARTING, Phase.READY, Phase.DRAINING, Phase.STOPPING}
RUNNING = {Phase.STARTING, Phase.READY, Phase.DRAINING}
#: Rounds until the scheduler asks for nothing more in a world in which nothing else happens.
ROUNDS = 12

fleets = st.lists(
    st.tuples(st.integers(1, 11), st.sampled_from(list(Role)), st.sampled_from([("0",), ("1",), ("0", "1")]),
              st.sampled_from([0.0, 5.0, 60.0])),
    min_size=2, max_size=5,
)  # fmt: skip


class World(RuleBasedStateMachine):
    """Applies actions as the store and the runtimes do, and checks each on its way."""

    @initialize(fleet=fleets, policy=st.sampled_from([STRICT, Policy(), Policy(minimum_service=0.0)]))
    def build(self, fleet: list[tuple[int, Role, tuple[str, ...], float]], policy: Policy) -> None:
        self.policy = policy
        # the longest that anybody is asked to wait before it goes strictly by age
        self.longest = patience(policy, len(fleet) * (ASSUMED_LOAD + ASSUMED_UNLOAD))
        self.last_end: dict[tuple[str, str], float] = {}
        self.specs = {
            f"m{index}": spec(f"m{index}", memory, role, gpus=gpus, idle_timeout=idle, drain_timeout=20.0)
            for index, (memory, role, gpus, idle) in enumerate(fleet)
        }
        self.states = {name: ModelState() for name in self.specs}
        self.warm = Warm()
        self.line: list[Waiting] = []
        self.leases: dict[str, list[str]] = {name: [] for name in self.specs}
        self.now = 1000.0
        self.refused: list[str] = []
        self.served = 0
        self.beside: dict[str, set[str]] = {}  # what started while a model was the oldest that needs room
        self.ids = itertools.count()
        self.settle()

    # --- the world's own moves

    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.specs)))
        self.tick()
        if self.states[name].phase is Phase.READY:
            self.leases[name].append(f"r{next(self.ids)}")
            self.served += 1
        elif not (self.states[name].phase is Phase.FAILED and self.states[name].retry_at > self.now):
            self.line.append(Waiting(f"r{next(self.ids)}", name, self.now))
        self.settle()

    @precondition(lambda self: any(self.leases.values()))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name, leases in self.leases.items() if leases]))
        self.tick()
        self.end_lease(name)
        self.settle()

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def leave_line(self, data: st.DataObject) -> None:
        self.line.remove(data.draw(st.sampled_from(self.line)))
        self.settle()

    @precondition(lambda self: self.moving())
    @rule(data=st.data(), works=st.booleans())
    def move_on(self, data: st.DataObject, works: bool) -> None:
        name = data.draw(st.sampled_from(self.moving()))
        self.tick()
        self.complete(name, works=works)
        self.settle()

    @rule(data=st.data(), wish=st.sampled_from(["wake", "drain", "force", "pin", "unpin", "die"]))
    def interfere(self, data: st.DataObject, wish: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.specs)))
        state = self.states[name]
        self.tick()
        if wish == "wake" and state.phase is not Phase.READY:
            self.change(name, wanted=self.now, sleep="", retry_at=0.0)
        elif wish in ("drain", "force") and state.phase not in (Phase.ASLEEP, Phase.FAILED):
            self.change(name, sleep=wish, wanted=None)
        elif wish in ("pin", "unpin"):
            self.change(name, pinned=wish == "pin")
        elif wish == "die" and state.phase in (Phase.READY, Phase.DRAINING):
            self.change(name, phase=Phase.ASLEEP, since=self.now, sleep="")
        self.settle()

    @rule(data=st.data())
    def wish(self, data: st.DataObject) -> None:
        """The owner's wishes change: any models in any order, more than fit, for longer or shorter."""
        names = data.draw(st.lists(st.sampled_from(sorted(self.specs)), unique=True))
        strengths = st.sampled_from(list(Strength))
        since = st.sampled_from([0.0, self.now - 200.0, self.now])
        self.warm = Warm({name: Wish("test", data.draw(strengths), None, data.draw(since)) for name in names})
        self.settle()

    @rule(seconds=st.sampled_from([1.0, 6.0, 30.0, 100.0, 200.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.settle()

    # --- applying decisions

    def settle(self) -> Decision:
        """Carry out decisions until none asks for anything."""
        for _ in range(ROUNDS):
            snapshot = self.snapshot()
            decision = decide(snapshot)
            assert decide(snapshot) == decision, "the same state gives the same decision"
            if not decision.actions:
                self.check_patience(decision)
                return decision
            for action in decision.actions:
                self.apply(action)
                self.check_memory()
        raise AssertionError(f"the scheduler does not come to rest: {decision.actions}")

    def check_patience(self, decision: Decision) -> None:
        """Nothing is due before the moment that the decision names."""
        later = self.now + 1000.0 if decision.look_again_at is None else (self.now + decision.look_again_at) / 2
        assert decide(self.snapshot(later)).actions == (), "it said that nothing is due by then"

    def apply(self, action: Action) -> None:
        state = self.states[action.model]
        match action:
            case Grant(name, requests):
                assert state.phase is Phase.READY
                assert requests
                for request in requests:
                    self.line.remove(next(each for each in self.line if each.id == request))
                    self.leases[name].append(request)
                    self.served += 1
            case Start(name):
                assert state.phase in (Phase.ASLEEP, Phase.FAILED)
                assert state.phase is Phase.ASLEEP or state.retry_at <= self.now
                self.check_order(name)
                self.change(name, phase=Phase.STARTING, since=self.now, sleep="")
            case Stop(name, reason, force):
                assert state.phase in RUNNING
                overdue = state.phase is Phase.DRAINING and self.now >= state.since + self.specs[name].drain_timeout
                assert not force or state.sleep == "force" or overdue, "force is for an admin and for the drain limit"
                assert force or not self.leases[name], "nobody is cut off"
                if reason == "idle":
                    assert not state.pinned
                    assert self.now >= state.last_used + self.specs[name].idle_timeout
                self.change(name, phase=Phase.STOPPING, since=self.now)
            case CloseGate(name, _):
                assert state.phase is Phase.READY
                self.change(name, phase=Phase.DRAINING, since=self.now)
            case OpenGate(name):
                assert state.phase is Phase.DRAINING
                self.change(name, phase=Phase.READY, since=self.now)
            case Refuse(name, requests):
                assert self.specs[name].memory > min(ROOM[gpu] for gpu in self.specs[name].gpus)
                self.line = [each for each in self.line if each.id not in requests]
                self.refused += requests

    def check_order(self, name: str) -> None:
        """A model that starts does not take the room that an older request waits for whose time has come."""
        needy = self.needy()
        older = [each for each in needy if each != name and name in needy and needy[each] < needy[name]]
        if name not in needy:
            older = list(needy)
        older = [each for each in older if self.now - needy[each] >= self.longest]
        older = [each for each in older if set(self.specs[each].gpus) & set(self.specs[name].gpus)]
        if older:
            oldest = min(older, key=lambda each: needy[each])
            started = self.beside.setdefault(oldest, set())
            started |= {name}
            started = {each for each in started if self.states[each].phase in HOLDING or each == name}
            assert fit_together([self.specs[each] for each in {*started, oldest}], ROOM), (
                f"{name} stands in the way of {oldest}"
            )
        self.beside.pop(name, None)

    def needy(self) -> dict[str, float]:
        """Models that should run and do not, and since when; without those that cool down or never fit."""
        found: dict[str, float] = {}
        for name, state in self.states.items():
            if state.phase in RUNNING or (state.phase is Phase.FAILED and state.retry_at > self.now):
                continue
            wishes = [each.joined for each in self.line if each.model == name]
            wishes += [state.wanted] if state.wanted is not None else []
            if wishes and fit_together([self.specs[name]], ROOM):
                found[name] = min(wishes)
        return found

    def check_memory(self) -> None:
        assert fit_together([self.specs[name] for name, state in self.states.items() if state.phase in HOLDING], ROOM)

    # --- parts

    def snapshot(self, now: float | None = None) -> Snapshot:
        models = {
            name: dataclasses.replace(state, in_flight=len(self.leases[name]), callers=self.callers(name))
            for name, state in self.states.items()
        }
        state = FleetState(self.now if now is None else now, models, tuple(self.line))
        return Snapshot(self.specs, ROOM, state, self.policy, warm=self.warm)

    def callers(self, name: str) -> dict[str, CallerState]:
        """Every request is one of its own caller, who is believed to come back."""
        found = {each: CallerState(None, 1) for each in self.leases[name]}
        gone = {each: CallerState(at) for (model, each), at in self.last_end.items() if model == name}
        return {**gone, **found}

    def change(self, name: str, **fields: Any) -> None:
        self.states[name] = dataclasses.replace(self.states[name], **fields)

    def tick(self) -> None:
        self.now += 0.01

    def moving(self) -> list[str]:
        return [name for name, state in self.states.items() if state.phase in (Phase.STARTING, Phase.STOPPING)]

    def end_lease(self, name: str) -> None:
        self.last_end[name, self.leases[name].pop(0)] = self.now
        self.change(name, last_used=self.now)

    def complete(self, name: str, *, works: bool) -> None:
        """A start or a stop has done what it does. Force may have left requests, which end with their engine."""
        if self.states[name].phase is Phase.STOPPING:
            self.leases[name].clear()
            self.change(name, phase=Phase.ASLEEP, since=self.now)
        elif works:
            self.change(name, phase=Phase.READY, since=self.now, last_used=self.now, ready_at=self.now, wanted=None)
        else:
            self.line = [each for each in self.line if each.model != name]  # all of them are told
            self.change(name, phase=Phase.FAILED, since=self.now, retry_at=self.now + 7, wanted=None, sleep="")

    @invariant()
    def memory_holds(self) -> None:
        if hasattr(self, "specs"):
            self.check_memory()

    def teardown(self) -> None:
        """When nothing new comes and all that runs goes on, everybody who waits is served or refused."""
        if not hasattr(self, "specs"):
            return
        steps = 20 + 6 * (len(self.line) + len(self.specs))
        for _ in range(steps):
            decision = self.settle()
            wished = any(state.wanted is not None for state in self.states.values())
            if not self.line and not (wished and self.needy()):
                return
            self.tick()
            busy = [name for name, leases in self.leases.items() if leases]
            moving = self.moving()
            for name in busy:
                while self.leases[name]:
                    self.end_lease(name)
            for name in moving:
                self.complete(name, works=True)
            if not busy and not moving:
                assert decision.look_again_at is not None, f"nothing will ever happen for {self.line}"
                self.now = decision.look_again_at
        raise AssertionError(f"still waiting after {steps} steps: {self.line}")


TestWorld = World.TestCase
TestWorld.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
