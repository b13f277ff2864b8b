"""The picture: what is drawn of each model, before it is drawn."""

from __future__ import annotations

from itertools import pairwise

import pytest

from router.simulator.fleet import SimulatedModel, one_gpu
from router.simulator.outcome import simulate
from router.simulator.peers import RunningFirst
from router.simulator.timeline import _COLOURS, _joined, _phases, _served
from router.simulator.workload import Session, Step
from router.store.state import Phase


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, 0 to 1."""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_differ_in_lightness_too() -> None:
    """Each has at least 1.5 times the contrast of the next darker one."""
    ordered = sorted((luminance(colour) for colour in _COLOURS.values()), reverse=True)
    assert all((light + 0.05) / (dark + 0.05) > 1.5 for light, dark in pairwise(ordered))


def test_lane_has_the_phases_with_their_ends_and_what_ran() -> None:
    a, b = SimulatedModel("a", 10.0, 1.0), SimulatedModel("b", 20.0, 2.0)
    sessions = [
        Session("x", 0.0, (Step("a", 0, 0, seconds=2.0), Step("a", 0, 0, 1.0, seconds=2.0))),
        Session("y", 12.5, (Step("b", 0, 0, seconds=2.0),)),
    ]
    history = simulate(one_gpu([a, b]), sessions, RunningFirst()).history
    first = [(phase, span) for phase, span in _phases(history, "a", 100.0) if span[0] < 14]
    assert first == [(Phase.STARTING, (0.0, 10.0)), (Phase.READY, (10.0, 12.5)), (Phase.STOPPING, (12.5, 13.5))]
    assert _served(history, "b") == [(33.5, 35.5)]


@pytest.mark.parametrize(
    ("spans", "joined"),
    [
        ([], []),
        ([(0, 1)], [(0, 1)]),
        ([(0, 5), (1, 2), (5.5, 6)], [(0, 6)]),
        ([(0, 1), (2.5, 3)], [(0, 1), (2.5, 3)]),
    ],
)
def test_spans_that_are_close_are_joined(spans: list[tuple[float, float]], joined: list[tuple[float, float]]) -> None:
    assert list(_joined(spans, 1.0)) == joined
