"""Recorded requests as a workload: which of them form a session, and that a replay repeats what was recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from router.api.views import EndedRequestView
from router.scheduling.gaps import HORIZON
from router.simulator.command import POLICIES
from router.simulator.fleet import SimulatedModel, one_gpu
from router.simulator.history import History
from router.simulator.lengths import BUILT_IN
from router.simulator.outcome import simulate
from router.simulator.replay import read_records, replay
from router.simulator.workload import Session, agent_sessions, open_arrivals

BEGAN = 1_700_000_000.0
MODELS = ("a", "b")


def record(joined: float, granted: float | None, ended: float, **fields: Any) -> EndedRequestView:
    """Times from BEGAN on."""
    values = {"model": "a", "caller": "ada", "completed": True} | fields
    at = None if granted is None else BEGAN + granted
    return EndedRequestView(joined=BEGAN + joined, granted=at, ended=BEGAN + ended, **values)


def recorded(history: History) -> list[EndedRequestView]:
    """What the router would have written down."""
    return [
        record(
            request.joined,
            request.granted,
            request.ended or 0.0,
            model=request.step.model,
            caller=request.session.caller,
            completed=request.granted is not None and not request.cut_off,
        )
        for request in history.requests
    ]


def sessions_of(*records: EndedRequestView, hours: float | None = None) -> list[Session]:
    return replay(records, MODELS, hours).sessions


def test_requests_of_a_caller_form_a_session_with_its_pauses() -> None:
    first, second = record(10, 15, 20), record(23.5, 23.5, 30, model="b")
    (session,) = sessions_of(second, first)
    assert (session.caller, session.start) == ("ada", 0.0)
    assert [(step.model, step.pause, step.seconds) for step in session.steps] == [("a", 0.0, 5.0), ("b", 3.5, 6.5)]


@pytest.mark.parametrize(
    "other",
    [record(20 + HORIZON + 1, 200, 201), record(15, 15, 16), record(21, 21, 22, caller="bob")],
    ids=["too long after", "overlaps", "another caller"],
)
def test_other_requests_are_sessions_of_their_own(other: EndedRequestView) -> None:
    both = sessions_of(record(10, 10, 20), other)
    assert [len(session.steps) for session in both] == [1, 1]
    assert both[1].start == other.joined - BEGAN - 10


def test_a_request_follows_the_latest_that_had_ended() -> None:
    """Two agents with one key: each goes on where the pause is shortest."""
    chains = sessions_of(record(0, 0, 10), record(1, 1, 30), record(12, 12, 20), record(31, 31, 40))
    assert [[step.seconds for step in chain.steps] for chain in chains] == [[10, 8], [29, 9]]


def test_one_that_never_ran_is_a_client_that_leaves() -> None:
    left = record(40, None, 55, completed=False)
    sessions = sessions_of(record(0, 0, 10), record(20, 20, 40), left)
    step = sessions[-1].steps[0]
    assert (sessions[-1].start, step.patience, step.seconds) == (40.0, 15.0, 15.0)
    assert len(sessions) == 2


def test_hours_and_unknown_models() -> None:
    found = replay([record(0, 0, 1), record(5, 5, 6, model="gone"), record(7300, 7300, 7301)], MODELS, 2.0)
    assert (len(found.sessions), found.unknown) == (1, {"gone": 1})


@pytest.mark.parametrize("policy", ["hearth", "running-first", "refuse"])
def test_replay_repeats_what_was_recorded(policy: str) -> None:
    models = [SimulatedModel("a", 60.0, concurrency=99), SimulatedModel("b", 110.0, concurrency=99)]
    work = [
        *agent_sessions(models, BUILT_IN, per_hour=4, hours=6, seed=3),
        *open_arrivals(models, BUILT_IN, per_minute=0.2, hours=6, seed=4),
    ]
    work = [Session(f"{index}", each.start, each.steps) for index, each in enumerate(work)]
    box = one_gpu(models)
    first = simulate(box, work, POLICIES[policy](box))
    again = simulate(box, replay(recorded(first.history), MODELS).sessions, POLICIES[policy](box))
    assert again.outcome.requests == first.outcome.requests
    assert again.outcome.swaps == pytest.approx(first.outcome.swaps, rel=0.05)
    assert again.outcome.session_stretch == pytest.approx(first.outcome.session_stretch, rel=0.05)


def test_lines_are_read_as_they_are_written(tmp_path: Path) -> None:
    records = [record(0, 1, 2), record(0, None, 2, completed=False)]
    path = tmp_path / "week.jsonl"
    path.write_text("\n".join(each.model_dump_json() for each in records) + "\n\n")
    with path.open("rb") as file:
        assert read_records(file, "week") == records


GOOD = json.loads(record(0, 1, 2).model_dump_json())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "week: has no requests"),
        ("not json", "week: line 1: Invalid JSON"),
        (b"\xff\xfe", "week: line 1: Invalid JSON"),
        ("[]", "week: line 1: "),
        (json.dumps(GOOD | {"joined": "soon"}), "week: line 1: joined: "),
        (json.dumps({key: GOOD[key] for key in GOOD if key != "model"}), "week: line 1: model: Field required"),
        (json.dumps(GOOD | {"ended": 5.0}), "week: line 1: joined, granted and ended are not in this order"),
        (json.dumps(GOOD | {"ended": 1e308}), "week: line 1: joined and ended are seconds since 1970"),
        (json.dumps(GOOD | {"joined": -1.0}), "week: line 1: joined and ended are seconds since 1970"),
        (json.dumps(GOOD | {"granted": BEGAN - 5.0}), "week: line 1: joined, granted and ended are not in this order"),
        (json.dumps(GOOD | {"ended": float("inf")}), "week: line 1: ended: "),
    ],
)
def test_what_is_no_record_is_told_with_its_line(line: str | bytes, said: str) -> None:
    with pytest.raises(ValueError) as raised:
        read_records([line if isinstance(line, bytes) else line.encode()], "week")
    assert str(raised.value).startswith(said)
    assert "\n" not in str(raised.value)
