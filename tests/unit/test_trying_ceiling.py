"""The search for a context's ceiling, on engines that are plain functions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.trying.ceiling import Outcome, Plan, Tier, next_size, parse_sizes

pytestmark = pytest.mark.unit


def searched(plan: Plan, holds: int) -> Outcome:
    """What a search finds on an engine that takes prompts of up to `holds` tokens."""
    outcome = Outcome()
    while (size := next_size(plan, outcome.tiers)) is not None:
        assert len(outcome.tiers) < 60, "it does not end"
        outcome.tiers.append(Tier(size, 1, passed=size <= holds))
    return outcome


@given(st.integers(1, 300_000), st.integers(1, 300_000), st.integers(1, 10_000), st.integers(1, 5_000))
def test_the_ceiling_is_found_to_within_a_step(holds: int, most: int, first: int, step: int) -> None:
    outcome = searched(Plan(first=first, most=most, step=step), holds)
    found = outcome.ceiling or 0
    assert found <= min(holds, most)
    assert found + step >= min(holds, most)
    assert max(tier.target for tier in outcome.tiers) <= most
    assert len({tier.target for tier in outcome.tiers}) == len(outcome.tiers), "nothing is tried twice"


def test_it_doubles_then_halves() -> None:
    outcome = searched(Plan(first=4096, most=65536, step=2048), 20_000)
    assert [tier.target for tier in outcome.tiers] == [4096, 8192, 16384, 32768, 24576, 20480, 18432]
    assert outcome.ceiling == 18432


def test_given_sizes_are_tried_up_to_the_first_that_fails() -> None:
    outcome = searched(Plan(sizes=(1000, 2000, 3000, 4000)), 2500)
    assert [(tier.target, tier.passed) for tier in outcome.tiers] == [(1000, True), (2000, True), (3000, False)]
    assert outcome.ceiling == 2000


def test_what_passed_above_a_failure_is_no_ceiling() -> None:
    assert (
        Outcome([Tier(1000, 1, passed=True), Tier(2000, 1, passed=False), Tier(4000, 1, passed=True)]).ceiling == 1000
    )
    assert Outcome([Tier(1000, 1, passed=False)]).ceiling is None


def test_sizes_as_people_write_them() -> None:
    assert parse_sizes("8k, 4K,100000,1m,4096") == (4096, 8192, 100000, 1048576)


@pytest.mark.parametrize("text", ["", "4k,", "0", "-1", "4.5k", "many"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="no size of a prompt"):
        parse_sizes(text)
