"""Nobody waits longer than the bound says: random models, loads, arrivals, failures and cancellations."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from router.scheduling.bound import bound, configured_limits
from router.scheduling.decision import Snapshot
from router.scheduling.policy import Policy
from router.scheduling.warm import Strength, Warm, Wish
from router.settings import Role
from router.simulator.fleet import ROOM, Fleet, SimulatedModel, simulated_spec
from router.simulator.history import History
from router.simulator.ours import Hearth
from router.simulator.workload import Session, Step
from router.simulator.world import Faults, World

pytestmark = pytest.mark.timeout(120)

#: Tokens per second of every model, so that a request of 20 tokens takes 20 seconds.
RATE = 1.0
LONGEST_REQUEST = 20

#: A model and where it runs: one GPU, two of three that form a chain, or all.
placed = st.tuples(
    st.builds(
        SimulatedModel,
        name=st.just(""),
        load_seconds=st.sampled_from([0.0, 0.5, 5.0, 60.0, 280.0]),
        unload_seconds=st.sampled_from([0.0, 1.0, 8.0]),
        prefill_tps=st.just(RATE),
        decode_tps=st.just(RATE),
        concurrency=st.just(1000),
        memory=st.sampled_from([0.3, 0.6, 1.0]),
    ),
    st.sampled_from([("0",), ("0",), ("1",), ("0", "1"), ("1", "2"), ("0", "1", "2")]),
    st.sampled_from([Role.NORMAL, Role.NORMAL, Role.UTILITY, Role.EXCLUSIVE]),
)
fleets = st.lists(placed, min_size=2, max_size=5)
#: start, model, number of requests, tokens of each, pause between them
clients = st.lists(
    st.tuples(
        st.floats(0, 900),
        st.integers(0, 4),
        st.integers(1, 40),
        st.integers(1, LONGEST_REQUEST),
        st.sampled_from([0.0, 0.3, 3.0, 20.0, 200.0]),
    ),
    min_size=2,
    max_size=12,
)
policies = st.builds(
    Policy,
    patience=st.sampled_from([0.0, 10.0, 2500.0]),
    minimum_service=st.sampled_from([0.0, 60.0]),
    planned_residency=st.sampled_from([0.0, 120.0]),
    hold_share=st.sampled_from([0.0, 0.35, 1.0]),
)
faults = st.builds(
    Faults,
    seed=st.integers(0, 3),
    slow=st.sampled_from([1.0, 2.0]),
    failing=st.sampled_from([0.0, 0.3]),
    leaving=st.sampled_from([0.0, 0.3]),
    patience=st.just(300.0),
)


#: from, for how long, model, strength: the owner's wishes
wishes = st.lists(
    st.tuples(
        st.floats(0, 900),
        st.sampled_from([1.0, 60.0, 2000.0]),
        st.integers(0, 4),
        st.sampled_from(list(Strength)),
    ),
    max_size=5,
)


class WarmWorld(World):
    """A world whose owner wants some models warm at some times."""

    wished: Sequence[tuple[float, float, int, Strength]] = ()

    def run(self, *arguments: Any) -> History:
        for start, span, _, _ in self.wished:
            self.clock.at(start, self._settle)
            self.clock.at(start + span, self._settle)
        return super().run(*arguments)

    def snapshot(self) -> Snapshot:
        now, names = self.clock.now, list(self.fleet.specs)
        found = {
            names[which % len(names)]: Wish("test", strength, start + span, start)
            for start, span, which, strength in self.wished
            if start <= now < start + span
        }
        return dataclasses.replace(super().snapshot(), warm=Warm(found))


Placed = tuple[SimulatedModel, tuple[str, ...], Role]


def sessions(found: Sequence[tuple[float, int, int, int, float]], models: int) -> list[Session]:
    """What the clients of one example do on a box with so many models."""
    return [
        Session(f"c{index}", start, tuple(Step(f"m{which % models}", 0, tokens, pause) for _ in range(steps)))
        for index, (start, which, steps, tokens, pause) in enumerate(found)
    ]


def box(fleet: list[Placed], slow: float = 1.0) -> Fleet:
    """The models as m0, m1, ... on up to three GPUs; the limits are as tight as they can be."""
    models = {f"m{index}": dataclasses.replace(each, name=f"m{index}") for index, (each, _, _) in enumerate(fleet)}
    specs = {
        name: simulated_spec(model, gpus=gpus, role=role, drain_timeout=LONGEST_REQUEST + 1.0, slow=slow)
        for (name, model), (_, gpus, role) in zip(models.items(), fleet, strict=True)
    }
    return Fleet(models, specs, dict.fromkeys(("0", "1", "2"), ROOM))


def excess(world: World) -> dict[str, tuple[float, float]]:
    """Run it: the models of which somebody waited longer than the bound, with the wait and the bound."""
    history = world.run()
    assert history.requests
    assert not any(request.cut_off for request in history.requests), "all requests are shorter than the drain limit"
    specs = world.fleet.specs
    limits = {name: configured_limits(spec) for name, spec in specs.items()}
    allowed = bound(world.contender.policy, specs, world.snapshot().state.models, limits)
    longest = dict.fromkeys(specs, 0.0)
    for request in history.requests:
        longest[request.step.model] = max(longest[request.step.model], request.wait)
    return {name: (wait, allowed[name]) for name, wait in longest.items() if wait > allowed[name] + 1e-6}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(fleets, clients, policies, faults, wishes)
@example(
    [
        (SimulatedModel("", 60.0, 5.0, RATE, RATE, 1000), ("0",), Role.NORMAL),
        (SimulatedModel("", 280.0, 8.0, RATE, RATE, 1000), ("0",), Role.NORMAL),
    ],
    [(0.0, 0, 40, 20, 0.3), (3.0, 0, 40, 20, 0.0), (5.0, 1, 40, 20, 3.0), (6.0, 1, 40, 20, 0.0)],
    Policy(),
    Faults(),
    [],
)
def test_no_wait_is_longer_than_the_bound(
    fleet: list[Placed],
    found: list[tuple[float, int, int, int, float]],
    policy: Policy,
    wrong: Faults,
    wished: list[tuple[float, float, int, Strength]],
) -> None:
    world = WarmWorld(box(fleet, wrong.slow), sessions(found, len(fleet)), Hearth(policy=policy), faults=wrong)
    world.wished = wished
    assert excess(world) == {}


def test_a_greedy_model_waits_for_nobody_longer_than_its_deadline() -> None:
    """Two agents without a pause keep one model busy for ever; without the gate the other would starve."""
    model = SimulatedModel("", 10.0, 1.0, RATE, RATE)
    greedy = [Session(f"c{each}", 7.0 * each, (Step("m0", 0, 20, 0.0),) * 200) for each in range(2)]
    late = Session("late", 50.0, (Step("m1", 0, 5),))
    world = World(box([(model, ("0",), Role.NORMAL)] * 2), [*greedy, late], Hearth())
    assert excess(world) == {}
    patience = (2500.0 * 22.0) ** 0.5
    history = World(box([(model, ("0",), Role.NORMAL)] * 2), [*greedy, late], Hearth()).run()
    (waited,) = [request.wait for request in history.requests if request.session is late]
    assert patience - 30 < waited < patience + 40
