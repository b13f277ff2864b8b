"""Prompts have the wanted number of tokens for tokenizers that split in different ways."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from router.engine_simulator.tokens import count_tokens
from router.trying.prompts import MEASURES, build, measure

pytestmark = pytest.mark.unit

TOKENIZERS: list[Callable[[str], int]] = [
    count_tokens,
    lambda text: len(text.encode()),
    lambda text: len(re.findall(r"\w+|[^\w\s]", text)) + 7,
    lambda text: len(text) // 3,
]


@pytest.mark.parametrize("tokens", TOKENIZERS)
@pytest.mark.parametrize("target", [3_000, 40_000, 131_072])
def test_a_prompt_has_the_wanted_size_and_never_more(tokens: Callable[[str], int], target: int) -> None:
    counted = [tokens(build(lines, seed).text) for seed, lines in enumerate(MEASURES)]
    measured = measure((counted[0], counted[1]))
    for seed in (3, 12_345_678):
        size = tokens(build(measured.lines(target), seed).text)
        assert target * 0.97 <= size <= target


def test_no_two_prompts_begin_alike_or_hide_the_same() -> None:
    prompts = [build(20, seed) for seed in range(10_000_000, 10_000_200)]
    assert len({prompt.text[:16] for prompt in prompts}) == len({prompt.hidden for prompt in prompts}) == 200
    assert all(prompt.text.count(prompt.hidden) == 1 for prompt in prompts)


def test_an_engine_that_cuts_prompts_off_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match="count as 500 and 500"):
        measure((500, 500))
