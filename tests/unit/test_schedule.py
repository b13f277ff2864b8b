"""Cron expressions and time zones: what is refused, and when an expression fires, also where the clocks change."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.schedule import fires, parse_cron, parse_timezone

VIENNA = "Europe/Vienna"


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize("expression", ["0 7 * * mon-fri", "*/15 8-18 * * *", "@daily", "0 0 29 2 *", "0 9 l * *"])
def test_expressions_that_are_taken(expression: str) -> None:
    assert parse_cron(f" {expression} ") == expression


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "cannot be used"),
        ("0 7 * *", "cannot be used"),
        ("61 * * * *", "out of range"),
        ("0 7 * * someday", "cannot be used"),
        ("0 0 30 2 *", "failed to find next date"),
        ("0 7 * * * *", "seconds or years"),
        ("R R * * *", "is not a cron expression"),
        ("r(0-10) 7 * * *", "is not a cron expression"),
        ("H 7 * * *", "cannot be used"),
        (7, "is not a cron expression"),
    ],
)
def test_expressions_that_are_refused(expression: object, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        parse_cron(expression)
    assert "0 7 * * mon-fri" in str(caught.value), "it shows how it is done"


@pytest.mark.parametrize("name", ["", "Europe", "Mars/Olympus", "../etc/passwd", "/etc/localtime", None])
def test_time_zones_that_are_refused(name: object) -> None:
    with pytest.raises(ValueError, match="not a time zone known here"):
        parse_timezone(name)


@pytest.mark.parametrize(
    ("cron", "zone", "now", "last", "following"),
    [
        ("0 7 * * *", "UTC", "2026-05-04T07:00:00Z", "2026-05-04T07:00:00Z", "2026-05-05T07:00:00Z"),
        ("0 7 * * *", "UTC", "2026-05-04T06:59:59.999Z", "2026-05-03T07:00:00Z", "2026-05-04T07:00:00Z"),
        ("0 7 * * *", VIENNA, "2026-05-04T05:00:30Z", "2026-05-04T05:00:00Z", "2026-05-05T05:00:00Z"),
        ("0 7 * * mon-fri", VIENNA, "2026-05-09T12:00:00Z", "2026-05-08T05:00:00Z", "2026-05-11T05:00:00Z"),
        # 29 March: after 01:59 comes 03:00, and the day has 23 hours
        ("0 7 * * *", VIENNA, "2026-03-28T12:00:00Z", "2026-03-28T06:00:00Z", "2026-03-29T05:00:00Z"),
        ("30 2 * * *", VIENNA, "2026-03-29T00:59:00Z", "2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z"),
        ("30 2 * * *", VIENNA, "2026-03-29T01:00:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"),
        # 25 October: after 02:59 comes 02:00 again, and the day has 25 hours
        ("0 7 * * *", VIENNA, "2026-10-24T12:00:00Z", "2026-10-24T05:00:00Z", "2026-10-25T06:00:00Z"),
        ("30 2 * * *", VIENNA, "2026-10-25T00:31:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"),
        ("30 2 * * *", VIENNA, "2026-10-25T01:31:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"),
        # once in four years
        ("0 7 29 2 *", "UTC", "2026-05-04T07:00:00Z", "2024-02-29T07:00:00Z", "2028-02-29T07:00:00Z"),
    ],
)
def test_last_and_next_time(cron: str, zone: str, now: str, last: str, following: str) -> None:
    assert fires(cron, zone, at(now)) == (at(last), at(following))


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda ends: f"{min(ends)}-{max(ends)}")
    return st.one_of(st.just("*"), st.sampled_from(["*/5", "*/7", "*/30"]), number.map(str), span)


@given(
    minute=_field(0, 59),
    hour=_field(0, 23),
    zone=st.sampled_from(["UTC", VIENNA, "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    day=st.sampled_from(["2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "2026-04-04", "2026-10-03"]),
    second=st.integers(-3 * 3600, 27 * 3600),
)
@example(minute="30", hour="2", zone=VIENNA, day="2026-10-25", second=3600)
def test_each_time_follows_the_one_before_it(minute: str, hour: str, zone: str, day: str, second: int) -> None:
    """Asked at either of two times that follow each other, they still do: none is lost, none comes from nowhere."""
    cron, now = f"{minute} {hour} * * *", at(f"{day}T00:00:00Z") + second
    last, following = fires(cron, zone, now)
    assert last <= now < following
    assert fires(cron, zone, last) == (last, following)
    assert fires(cron, zone, following - 0.001) == (last, following)
    assert fires(cron, zone, following)[0] == following
