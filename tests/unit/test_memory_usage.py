"""What a load took, what is learned from it, and what that says of the declaration."""

from __future__ import annotations

import pytest

from router.memory.usage import Declaration, declaration, learned, used

GIB = 2**30


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({"0": 100}, {"0": 30}, 70),
        ({"0": 100, "1": 90}, {"0": 30, "1": 10}, 80),  # the declaration is for each GPU, so the most counts
        ({"0": 100}, {"0": 101}, None),
        ({"0": 100}, {"0": 100}, None),
        ({"0": 100, "1": 90}, {"0": 30}, None),
        ({}, {}, None),
    ],
)
def test_what_a_load_took(before: dict[str, int], after: dict[str, int], found: int | None) -> None:
    assert used(before, after) == found


def test_one_odd_load_moves_what_is_learned_only_a_little() -> None:
    assert learned(None, 50 * GIB) == 50 * GIB
    assert learned(50 * GIB, 50 * GIB) == 50 * GIB
    assert 50 * GIB < learned(50 * GIB, 1000 * GIB) <= 80 * GIB
    assert 35 * GIB <= learned(50 * GIB, 0) < 50 * GIB


@pytest.mark.parametrize(
    ("declared", "measured", "found"),
    [
        (96, None, Declaration.UNKNOWN),
        (96, 96, Declaration.FITTING),
        (96, 105, Declaration.FITTING),  # within a tenth
        (96, 106, Declaration.TOO_LOW),
        (6, 6.9, Declaration.FITTING),  # less than a GiB
        (6, 7.1, Declaration.TOO_LOW),
        (96, 73, Declaration.FITTING),
        (96, 71, Declaration.TOO_HIGH),
        (6, 4.1, Declaration.FITTING),  # less than two GiB
        (6, 3.9, Declaration.TOO_HIGH),
    ],
)
def test_declaration(declared: int, measured: float | None, found: Declaration) -> None:
    assert declaration(declared * GIB, None if measured is None else round(measured * GIB)) is found
