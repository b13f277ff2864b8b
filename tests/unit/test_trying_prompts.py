"""Prompts have the wanted number of tokens for tokenizers that split in different ways."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.engine_simulator.tokens import count_tokens
from router.trying.prompts import LONG, MEDIUM, SHORT, Counted, Measure, build, measure

pytestmark = pytest.mark.unit

Tokenizer = Callable[[str], int]


def letters(text: str) -> int:
    return len(text.encode())


def uneven(text: str) -> int:
    """Numbers take as many tokens as they have different digits."""
    return len(text.split()) + sum(len(set(number)) for number in re.findall(r"\d+", text))


def merging(text: str) -> int:
    """Words, a run of equal lines being half as many: what long merges would make of repeated text."""
    lines = re.split(r"(?<=\n)", text)
    return sum(
        len(line.split()) for at, line in enumerate(lines) if at % 2 == 0 or not line or line != lines[at - 1]
    ) + len(lines)


TOKENIZERS: dict[str, Tokenizer] = {
    "the simulator's": count_tokens,
    "letters": letters,
    "words and marks": lambda text: len(re.findall(r"\w+|[^\w\s]", text)),
    "not by words": lambda text: len(text) // 3,
    "uneven numbers": uneven,
    "merges": merging,
}
#: What a chat template puts around a message.
TEMPLATE = 40


def counted(tokens: Tokenizer, words: int, seed: int = 1) -> Counted:
    return Counted(words, tokens(build(words, seed).text) + TEMPLATE)


def measured(tokens: Tokenizer, longer: int = LONG) -> Measure:
    return measure(counted(tokens, SHORT), counted(tokens, longer))


@pytest.mark.parametrize("tokens", TOKENIZERS.values(), ids=TOKENIZERS)
@given(target=st.integers(500, 131_072), seed=st.integers(10_000_000, 90_000_000))
def test_a_prompt_has_the_wanted_size_template_included(tokens: Tokenizer, target: int, seed: int) -> None:
    made = measured(tokens)
    size = counted(tokens, made.words(target), seed).tokens
    assert abs(size - target) <= max(0.01 * target, 60)


@pytest.mark.parametrize("tokens", [count_tokens, letters, uneven])
@given(target=st.integers(500, 131_072), seed=st.integers(10_000_000, 90_000_000))
def test_it_never_has_more_for_a_tokenizer_that_is_even(tokens: Tokenizer, target: int, seed: int) -> None:
    assert target - 60 <= counted(tokens, measured(tokens, MEDIUM).words(target), seed).tokens <= target


def test_the_measuring_prompts_are_short_and_differ_in_whole_lines() -> None:
    assert letters(build(LONG, 1).text) < 1100, "with a tokenizer of single letters a context of 2048 is enough"
    assert letters(build(MEDIUM, 1).text) < 600
    short, medium, long = (build(words, 1).text.splitlines() for words in (SHORT, MEDIUM, LONG))
    assert set(short) == set(medium) == set(long)
    assert (len(medium) - len(short), len(long) - len(short)) == (2, 8)


def test_long_answers_mend_a_measure_that_was_wrong() -> None:
    def tokens(text: str) -> int:  # the second thousand of words splits otherwise
        words = len(text.split())
        return words + max(0, words - 1000)

    made = measured(tokens)
    words = made.words(4000)
    assert counted(tokens, words).tokens > 6000
    better = made.refined(counted(tokens, words))
    assert counted(tokens, better.words(7000)).tokens == pytest.approx(7000, rel=0.05)


def test_an_answer_as_expected_changes_nothing() -> None:
    made = measured(count_tokens)
    assert made.refined(counted(count_tokens, LONG + 30, seed=77_000_077)) is made
    assert made.refined(Counted(SHORT, 10_000)) is made, "shorter ones say less"
    assert made.refined(Counted(5000, 20)) is made, "this one was cut"


def test_no_two_prompts_begin_alike_or_hide_the_same() -> None:
    prompts = [build(300, seed) for seed in range(10_000_000, 10_000_200)]
    assert len({prompt.text[:16] for prompt in prompts}) == len({prompt.hidden for prompt in prompts}) == 200
    assert all(prompt.text.count(prompt.hidden) == 1 for prompt in prompts)


def test_an_engine_that_cuts_prompts_off_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match="count as 500 and 500"):
        measure(Counted(SHORT, 500), Counted(LONG, 500))
