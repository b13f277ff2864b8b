"""The simulated box: the same workload for every policy, and numbers that can be worked out by hand."""

from __future__ import annotations

import dataclasses

import pytest

from router.settings import Role
from router.simulator.command import POLICIES
from router.simulator.fleet import GPU, ROOM, Fleet, SimulatedModel, one_gpu, simulated_spec
from router.simulator.lengths import BUILT_IN
from router.simulator.ours import Hearth
from router.simulator.outcome import Outcome, simulate
from router.simulator.peers import Refusing, RunningFirst, StrictFifo
from router.simulator.workload import Session, Step, agent_sessions, alternating_clients, open_arrivals
from router.simulator.world import Contender, World
from router.store.state import Phase

A = SimulatedModel("a", 10.0, 1.0, prefill_tps=100.0, decode_tps=10.0, concurrency=1)
B = SimulatedModel("b", 20.0, 2.0, prefill_tps=100.0, decode_tps=10.0)
#: 100 tokens in and 10 out: two seconds.
TWO_SECONDS = (100, 10)


def once(caller: str, model: str, start: float) -> Session:
    return Session(caller, start, (Step(model, *TWO_SECONDS),))


def fleet(*models: SimulatedModel) -> Fleet:
    return one_gpu(models or (A, B))


def outcome_of(sessions: list[Session], contender: Contender, *, retry: float = 5.0) -> Outcome:
    return simulate(fleet(), sessions, contender, retry=retry).outcome


def ends(world: World) -> dict[str, float]:
    return {session.caller: end for session, end in world.run().sessions}


def test_one_request_waits_for_its_load() -> None:
    outcome = outcome_of([once("x", "a", 5.0)], RunningFirst())
    assert (outcome.wait_max_s, outcome.swaps, outcome.load_seconds) == (10.0, 1, 10.0)
    assert outcome.session_stretch == pytest.approx(12 / 2)


def test_beyond_the_concurrency_requests_queue_in_the_engine() -> None:
    sessions = [once("x", "a", 0.0), once("y", "a", 1.0)]
    assert ends(World(fleet(), sessions, RunningFirst())) == {"x": 12.0, "y": 14.0}


def test_swap_is_unload_then_load() -> None:
    sessions = [once("x", "a", 0.0), once("y", "b", 11.0)]
    assert ends(World(fleet(), sessions, RunningFirst())) == {"x": 12.0, "y": 12.0 + 1 + 20 + 2}


def test_strict_fifo_lets_nobody_pass() -> None:
    sessions = [once("x", "a", 0.0), once("y", "b", 11.0), once("z", "a", 11.5)]
    assert outcome_of(sessions, StrictFifo()).swaps == 3
    assert outcome_of(sessions, RunningFirst()).swaps == 2


def test_refused_client_asks_again_until_the_idle_time_is_over() -> None:
    sessions = [once("x", "a", 0.0), once("y", "b", 11.0)]
    outcome = outcome_of(sessions, Refusing(idle=30.0), retry=5.0)
    assert outcome.wait_max_s == 35 + 1 + 20  # let in at 46, the first question after 12 + 30


def test_hearth_lets_an_agent_finish() -> None:
    agent = Session("x", 0.0, (Step("a", *TWO_SECONDS, 1.0),) * 10)
    other = Session("y", 11.0, (Step("b", *TWO_SECONDS, 1.0),) * 10)
    ours, theirs = (outcome_of([agent, other], contender) for contender in (Hearth(), RunningFirst()))
    assert ours.swaps == 2
    assert theirs.swaps > 10
    assert ours.bound_s is not None
    assert ours.wait_max_s < ours.bound_s


@pytest.mark.parametrize(("loads", "clients"), [((60, 110), 1), ((60, 280), 1), ((280, 90), 2), ((60, 280), 3)])
def test_hearth_does_not_wait_for_alternating_clients(loads: tuple[float, float], clients: int) -> None:
    """Not where the way to the other model and back is short beside a swap, either."""
    box = one_gpu(
        [dataclasses.replace(A, name=name, load_seconds=load) for name, load in zip("ab", loads, strict=True)]
    )
    work = alternating_clients(list(box.models.values()), BUILT_IN, clients=clients, rounds=20, seed=5)
    ours, theirs = (simulate(box, work, contender).outcome for contender in (Hearth(), RunningFirst()))
    assert ours.session_stretch is not None
    assert theirs.session_stretch is not None
    assert ours.session_stretch < 1.02 * theirs.session_stretch


@pytest.mark.parametrize("policy", POLICIES)
def test_same_workload_same_numbers_and_nobody_is_lost(policy: str) -> None:
    work = [
        *agent_sessions([A, B], BUILT_IN, per_hour=3, hours=3, seed=5),
        *open_arrivals([A, B], BUILT_IN, per_minute=0.5, hours=3, seed=5, run=3),
        *alternating_clients([A, B], BUILT_IN, clients=2, rounds=3, seed=5),
    ]
    box = fleet()
    first = simulate(box, work, POLICIES[policy](box)).outcome
    assert first == simulate(box, work, POLICIES[policy](box)).outcome
    assert first.requests == sum(len(session.steps) for session in work)


def test_workload_is_made_from_its_seed() -> None:
    def make(seed: int) -> list[Session]:
        return agent_sessions([A, B], BUILT_IN, per_hour=3, hours=9, seed=seed)

    assert make(4) == make(4)
    assert make(4) != make(5)


def test_client_without_patience_leaves_the_line() -> None:
    """It is counted with the time that it waited; the model that was being loaded for it is of no use."""
    leaver = Session("y", 11.0, (Step("b", 0, 0, seconds=2.0, patience=5.0),))
    history = World(fleet(), [once("x", "a", 0.0), leaver], RunningFirst()).run()
    assert {request.session.caller: request.wait for request in history.requests} == {"x": 10.0, "y": 5.0}
    assert [session.caller for session, _ in history.sessions] == ["x"]


def test_refused_client_without_patience_asks_no_more() -> None:
    leaver = Session("y", 11.0, (Step("b", 0, 0, seconds=2.0, patience=12.0),))
    history = World(fleet(), [once("x", "a", 0.0), leaver], Refusing(idle=30.0), retry=5.0).run()
    assert history.loads == ["a"]
    assert [request.wait for request in history.requests] == [10.0, 12.0]


def test_drain_limit_cuts_off_what_runs_longer_and_its_client_goes_on() -> None:
    long = Session("x", 0.0, (Step("a", 0, 0, seconds=5000.0), Step("a", 0, 0, 1.0, seconds=1.0)))
    world = World(one_gpu([A, B], drain_timeout=30.0), [long, once("y", "b", 20.0)], Hearth())
    history = world.run()
    assert [request.cut_off for request in history.requests if request.session is long] == [True, False]
    assert len(history.sessions) == 2


def boxes(*placed: tuple[SimulatedModel, tuple[str, ...], Role]) -> Fleet:
    """Models on GPUs 0 and 1."""
    specs = {model.name: simulated_spec(model, gpus=gpus, role=role) for model, gpus, role in placed}
    return Fleet({model.name: model for model, _, _ in placed}, specs, {"0": ROOM, "1": ROOM})


@pytest.mark.parametrize("policy", POLICIES)
def test_two_gpus_load_at_the_same_time_and_one_that_needs_both_waits_for_both(policy: str) -> None:
    both = dataclasses.replace(A, name="both")
    placed = boxes((A, ("0",), Role.NORMAL), (B, ("1",), Role.NORMAL), (both, ("0", "1"), Role.NORMAL))
    sessions = [once("x", "a", 0.0), once("y", "b", 0.0), once("z", "both", 300.0)]
    history = World(placed, sessions, POLICIES[policy](placed)).run()
    waits = {request.session.caller: request.wait for request in history.requests}
    assert (waits["x"], waits["y"]) == (10.0, 30.0 if policy == "strict-fifo" else 20.0), "one line has one head"
    assert waits["z"] >= 2.0 + 10.0, "b takes two seconds to unload"
    assert [phase for at, phase in history.spans["b"]][-2:] == [Phase.STOPPING, Phase.ASLEEP]


def test_utility_runs_from_the_beginning_and_exclusive_is_alone() -> None:
    small = SimulatedModel("small", 5.0, 1.0, memory=0.2)
    alone = SimulatedModel("alone", 7.0, 1.0, memory=0.2)
    placed = boxes((small, (GPU,), Role.UTILITY), (alone, (GPU,), Role.EXCLUSIVE))
    history = World(placed, [Session("x", 50.0, (Step("alone", 0, 0, seconds=3.0),))], Hearth()).run()
    assert history.spans["small"][:2] == [(0.0, Phase.STARTING), (5.0, Phase.READY)]
    assert [request.wait for request in history.requests] == [1.0 + 7.0]


@pytest.mark.parametrize("policy", ["hearth", "running-first", "refuse"])
def test_two_that_fit_need_no_swap_and_one_stop_is_enough(policy: str) -> None:
    thirds = [SimulatedModel(name, 10.0, 1.0, memory=0.4) for name in "abc"]
    sessions = [once("x", "a", 0.0), once("y", "b", 0.0), once("z", "c", 4000.0)]
    box = one_gpu(thirds)
    history = World(box, sessions, POLICIES[policy](box)).run()
    assert history.loads == ["a", "b", "c"]
    stopped = [name for name, spans in history.spans.items() if (Phase.STOPPING in [phase for _, phase in spans])]
    assert len(stopped) == 1


def test_limit_of_requests_in_flight_is_the_schedulers_line_and_its_callers_take_turns() -> None:
    found = fleet(B)
    one = dataclasses.replace(found, specs={"b": found.specs["b"].model_copy(update={"parallel": 1})})
    greedy = [once("greedy", "b", each / 10) for each in range(4)]
    history = World(one, [*greedy, once("late", "b", 1.0)], Hearth()).run()
    assert [request.granted for request in history.requests] == [20.0, 22.0, 24.0, 26.0, 28.0]
    assert [request.session.caller for request in history.requests].index("late") == 1


@pytest.mark.parametrize("policy", POLICIES)
def test_idle_timeout_stops_a_model_under_every_policy(policy: str) -> None:
    found = fleet(A)
    idle = dataclasses.replace(found, specs={"a": found.specs["a"].model_copy(update={"idle_timeout": 60.0})})
    sessions = [once("x", "a", 0.0), once("y", "a", 500.0)]
    history = World(idle, sessions, POLICIES[policy](idle)).run()
    assert history.loads == ["a", "a"]
    assert history.spans["a"][2] == (12.0 + 60.0, Phase.STOPPING)
