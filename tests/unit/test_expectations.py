"""What is written for callers about their waits, and when it is written again."""

from __future__ import annotations

import pytest
from fleet import ASLEEP, in_phase, snapshot, spec

from router.expectations import Expectations
from router.scheduler import Outlook, Snapshot
from router.store.state import Phase

A = spec("a")


def asleep(*joined: float, now: float = 1000.0) -> Snapshot:
    line = tuple((f"r{index}", "a", moment) for index, moment in enumerate(joined))
    return snapshot((A, ASLEEP), line=line, now=now)


def outlook(expected: float | None, at_most: float, waiting: float | None = None) -> Outlook:
    return Outlook({"a": expected}, {"a": at_most}, {} if waiting is None else {"a": waiting})


def test_who_may_come_is_told_spans() -> None:
    written = Expectations().changes(asleep(), outlook(20.0, 80.0))
    assert written == {
        "a": {"expected_at": "", "expected_in": 20_000, "at_most_in": 80_000, "at_most_at": "", "told_to": 0}
    }


def test_who_waits_is_told_moments_and_up_to_whom_they_hold() -> None:
    written = Expectations().changes(asleep(990.0, 995.5), outlook(20.0, 80.0, 75.25))
    assert written == {
        "a": {
            "expected_at": 1_020_000,
            "expected_in": "",
            "at_most_in": 80_000,
            "at_most_at": 1_075_250,
            "told_to": 995_500,
        }
    }


def test_a_load_under_way_ends_at_a_moment() -> None:
    loading = snapshot((A, in_phase(Phase.STARTING)))
    (fields,) = Expectations().changes(loading, outlook(20.0, 80.0)).values()
    assert (fields["expected_at"], fields["expected_in"]) == (1_020_000, "")


def test_what_was_never_measured_is_left_empty() -> None:
    (fields,) = Expectations().changes(asleep(), outlook(None, 80.0)).values()
    assert (fields["expected_at"], fields["expected_in"]) == ("", "")


@pytest.mark.parametrize(
    ("later", "again"),
    [
        (outlook(20.5, 79.5, 74.5), False),
        (outlook(29.0, 80.0, 75.0), True),
        (outlook(20.0, 80.0, 65.0), True),
        (outlook(20.0, 80.5, 75.0), True),  # a limit that is half a second too low is not kept
        (outlook(20.0, 80.0, 75.5), True),
    ],
)
def test_written_again_only_when_it_has_changed_noticeably_or_a_limit_is_too_low(later: Outlook, again: bool) -> None:
    expectations = Expectations()
    assert expectations.changes(asleep(990.0), outlook(20.0, 80.0, 75.0))
    assert bool(expectations.changes(asleep(990.0), later)) is again


def test_a_moment_that_comes_nearer_is_still_the_same_moment() -> None:
    expectations = Expectations()
    assert expectations.changes(asleep(990.0), outlook(20.0, 80.0, 75.0))
    assert expectations.changes(asleep(990.0, now=1010.0), outlook(10.0, 80.0, 65.0)) == {}


def test_whoever_joins_is_covered_at_once() -> None:
    expectations = Expectations()
    expectations.changes(asleep(990.0), outlook(20.0, 80.0, 75.0))
    (fields,) = expectations.changes(asleep(990.0, 990.2), outlook(20.0, 80.0, 75.0)).values()
    assert fields["told_to"] == 990_200


def test_all_is_written_again_when_the_store_may_have_lost_it() -> None:
    expectations = Expectations()
    expectations.changes(asleep(), outlook(20.0, 80.0))
    expectations.forget()
    assert expectations.changes(asleep(), outlook(20.0, 80.0))
