"""The simulator: the same workload for every policy, and numbers that can be worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from router.simulator.command import POLICIES, main, read_models
from router.simulator.ours import Hearth
from router.simulator.outcome import simulate
from router.simulator.peers import Refusing, RunningFirst, StrictFifo
from router.simulator.workload import (
    Session,
    SimulatedModel,
    Step,
    agent_sessions,
    alternating_clients,
    made_up_lengths,
    open_arrivals,
)
from router.simulator.world import World

A = SimulatedModel("a", 10.0, 1.0, prefill_tps=100.0, decode_tps=10.0, concurrency=1)
B = SimulatedModel("b", 20.0, 2.0, prefill_tps=100.0, decode_tps=10.0)
#: 100 tokens in and 10 out: two seconds.
TWO_SECONDS = (100, 10)


def once(caller: str, model: str, start: float) -> Session:
    return Session(caller, start, (Step(model, *TWO_SECONDS),))


def test_one_request_waits_for_its_load() -> None:
    outcome = simulate([A, B], [once("x", "a", 5.0)], RunningFirst())
    assert (outcome.wait_max_s, outcome.swaps, outcome.load_seconds) == (10.0, 1, 10.0)
    assert outcome.session_stretch == pytest.approx(12 / 2)


def test_beyond_the_concurrency_requests_queue_in_the_engine() -> None:
    world = World([A], [once("x", "a", 0.0), once("y", "a", 1.0)], RunningFirst())
    ends = {session.caller: end for session, end in world.run().spans_of_sessions}
    assert ends == {"x": 12.0, "y": 14.0}


def test_swap_is_unload_then_load() -> None:
    world = World([A, B], [once("x", "a", 0.0), once("y", "b", 11.0)], RunningFirst())
    ends = {session.caller: end for session, end in world.run().spans_of_sessions}
    assert ends == {"x": 12.0, "y": 12.0 + 1 + 20 + 2}


def test_strict_fifo_lets_nobody_pass() -> None:
    sessions = [once("x", "a", 0.0), once("y", "b", 11.0), once("z", "a", 11.5)]
    assert simulate([A, B], sessions, StrictFifo()).swaps == 3
    assert simulate([A, B], sessions, RunningFirst()).swaps == 2


def test_refused_client_asks_again_until_the_idle_time_is_over() -> None:
    sessions = [once("x", "a", 0.0), once("y", "b", 11.0)]
    outcome = simulate([A, B], sessions, Refusing(idle=30.0), retry=5.0)
    assert outcome.wait_max_s == 35 + 1 + 20  # let in at 46, the first question after 12 + 30


def test_hearth_lets_an_agent_finish() -> None:
    agent = Session("x", 0.0, (Step("a", *TWO_SECONDS, 1.0),) * 10)
    other = Session("y", 11.0, (Step("b", *TWO_SECONDS, 1.0),) * 10)
    ours, theirs = (simulate([A, B], [agent, other], contender) for contender in (Hearth(), RunningFirst()))
    assert ours.swaps == 2
    assert theirs.swaps > 10
    assert ours.bound_s is not None
    assert ours.wait_max_s < ours.bound_s


@pytest.mark.parametrize("policy", POLICIES)
def test_same_workload_same_numbers_and_nobody_is_lost(policy: str) -> None:
    models = [A, B]
    work = [
        *agent_sessions(models, made_up_lengths(1, 100), per_hour=3, hours=3, seed=5),
        *open_arrivals(models, made_up_lengths(1, 100), per_minute=0.5, hours=3, seed=5, run=3),
        *alternating_clients(models, made_up_lengths(1, 100), clients=2, rounds=3, seed=5),
    ]
    first = simulate(models, work, POLICIES[policy]())
    assert first == simulate(models, work, POLICIES[policy]())
    assert first.requests == sum(len(session.steps) for session in work)


def test_command_prints_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = tmp_path / "models.yaml"
    models.write_text("[{name: a, load_seconds: 10}, {name: b, load_seconds: 20, share: 0.5}]")
    arguments = ["--models", str(models), "--sessions-per-hour", "4", "--hours", "2", "--policy", "hearth", "--json"]
    assert main(arguments) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["policy"] == "hearth"
    assert found["requests"] > 0
    assert main(arguments[:-1]) == 0
    assert "hearth" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{}", "[]", "[{name: a}]", "[{name: a, load_seconds: 1, gpu: 2}]"])
def test_models_that_are_not_models_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"models\.yaml"):
        read_models(path)
    assert main(["--models", str(path), "--sessions-per-hour", "1"]) == 2
