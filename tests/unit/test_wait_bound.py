"""Nobody waits longer than the bound says: random models, loads, arrivals, failures and cancellations."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from router.scheduling.bound import bound, configured_limits
from router.scheduling.policy import Policy
from router.simulator.ours import Hearth
from router.simulator.workload import Session, SimulatedModel, Step
from router.simulator.world import Faults, World

pytestmark = pytest.mark.timeout(120)

#: Tokens per second of every model, so that a request of 20 tokens takes 20 seconds.
RATE = 1.0
LONGEST_REQUEST = 20

models = st.lists(
    st.builds(
        SimulatedModel,
        name=st.just(""),
        load_seconds=st.sampled_from([0.5, 5.0, 60.0, 280.0]),
        unload_seconds=st.sampled_from([0.0, 1.0, 8.0]),
        prefill_tps=st.just(RATE),
        decode_tps=st.just(RATE),
        concurrency=st.just(1000),
        memory=st.sampled_from([0.3, 0.6, 1.0]),
    ),
    min_size=2,
    max_size=5,
)
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


def worst(world: World) -> tuple[float, float]:
    """The longest wait of the history, and the bound."""
    history = world.run()
    limits = {name: configured_limits(spec) for name, spec in world.specs.items()}
    state = world.snapshot().state
    longest = max(bound(world.contender.policy, world.specs, state.models, limits).values())
    return max([*history.waits, *history.given_up]), longest


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(models, clients, policies, faults)
@example(
    [SimulatedModel("", 60.0, 5.0, RATE, RATE, 1000), SimulatedModel("", 280.0, 8.0, RATE, RATE, 1000)],
    [(0.0, 0, 40, 20, 0.3), (3.0, 0, 40, 20, 0.0), (5.0, 1, 40, 20, 3.0), (6.0, 1, 40, 20, 0.0)],
    Policy(),
    Faults(),
)
def test_no_wait_is_longer_than_the_bound(
    fleet: list[SimulatedModel],
    found: list[tuple[float, int, int, int, float]],
    policy: Policy,
    wrong: Faults,
) -> None:
    named = [
        SimulatedModel(
            f"m{index}", each.load_seconds, each.unload_seconds, RATE, RATE, each.concurrency, 1.0, each.memory
        )
        for index, each in enumerate(fleet)
    ]
    sessions = [
        Session(f"c{index}", start, tuple(Step(f"m{which % len(named)}", 0, tokens, pause) for _ in range(steps)))
        for index, (start, which, steps, tokens, pause) in enumerate(found)
    ]
    world = World(named, sessions, Hearth(policy=policy), faults=wrong, drain_timeout=LONGEST_REQUEST + 1.0)
    longest, allowed = worst(world)
    assert longest <= allowed + 1e-6


def test_a_greedy_model_waits_for_nobody_longer_than_its_deadline() -> None:
    """Two agents without a pause keep one model busy for ever; without the gate the other would starve."""
    fleet = [SimulatedModel("a", 10.0, 1.0, RATE, RATE), SimulatedModel("b", 10.0, 1.0, RATE, RATE)]
    greedy = [Session(f"c{each}", 7.0 * each, (Step("a", 0, 20, 0.0),) * 200) for each in range(2)]
    world = World(fleet, [*greedy, Session("late", 50.0, (Step("b", 0, 5),))], Hearth(), drain_timeout=21.0)
    longest, allowed = worst(world)
    patience = (2500.0 * 22.0) ** 0.5
    assert patience - 30 < longest < patience + 40
    assert longest < allowed
