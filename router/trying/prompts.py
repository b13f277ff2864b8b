"""Prompts of a wanted number of tokens, for an engine whose tokenizer is not at hand.

A prompt is one sentence said again and again, so its tokens grow evenly: two short answers tell how many a line takes
and how many come on top, the chat template's included. Answers to longer prompts, once there are any, tell it better.
The words left over when no whole line fits any more are added as well, or a tokenizer that takes every letter for a
token would miss the size by a line of 84.

Each prompt of a tier begins in its own way: an engine that keeps the beginnings of prompts (prefix caching) would
otherwise hold one for all of them, and the tier would try less memory than it says.
"""

from __future__ import annotations

from dataclasses import dataclass

_LINE = "The lamp in the harbour is lit at dusk, the boats come home, and nobody counts them.\n"
_WORDS = tuple(_LINE.split())
_ASK = "\nHow many boats came home, as the line with the number says? Answer with the number only."
LINE = len(_WORDS)
#: Words of the measuring prompts, SHORT and LONG; MEDIUM is for an engine whose whole context LONG exceeds. Each has as
#: many whole lines before the number as behind it, so that they differ in whole lines and in nothing else.
SHORT, MEDIUM, LONG = 2 * LINE, 4 * LINE, 10 * LINE
#: Tokens by which two prompts of as many words may differ: their numbers do not split alike, and neither do words.
_SLACK = 16


@dataclass(frozen=True, slots=True)
class Prompt:
    """text: of the one message. hidden: the number that stands in its middle."""

    text: str
    hidden: str


@dataclass(frozen=True, slots=True)
class Counted:
    """What an engine has counted in one prompt."""

    words: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Measure:
    """What an engine counts, from two prompts that differ in length alone. Made by `measure`."""

    short: Counted
    longer: Counted

    @property
    def per_word(self) -> float:
        return (self.longer.tokens - self.short.tokens) / (self.longer.words - self.short.words)

    @property
    def fixed(self) -> float:
        """Tokens of everything that is not repeated, the template included."""
        return self.short.tokens - self.per_word * self.short.words

    def words(self, target: int) -> int:
        """The most words with which a prompt has no more than `target` tokens; none is less than one."""
        return max(1, int((target - self.fixed - _SLACK) / self.per_word))

    @property
    def least(self) -> int:
        """The smallest target that can be built."""
        return int(self.fixed + self.per_word) + _SLACK + 1

    def refined(self, counted: Counted) -> Measure:
        """Known better by a prompt that was longer than those before; itself when that had as many as expected."""
        expected = self.fixed + self.per_word * counted.words
        if abs(counted.tokens - expected) <= _SLACK or counted.words <= self.longer.words:
            return self
        return measure(self.short, counted) if counted.tokens > self.short.tokens else self


def build(words: int, seed: int) -> Prompt:
    """A prompt of that many words. seed: another one gives another beginning and another hidden number."""
    hidden = f"{(seed * 7919 + 104729) % 900_000 + 100_000}"
    before = words // 2
    needle = f"Tonight {hidden} boats came home.\n"
    return Prompt(f"Log {seed:08d}.\n{_lines(before)}{needle}{_lines(words - before)}{_ASK}", hidden)


def measure(short: Counted, longer: Counted) -> Measure:
    """Raises ValueError when the longer prompt has no more tokens: the engine counts something else, or cuts prompts
    off."""
    if longer.tokens <= short.tokens:
        raise ValueError(
            f"prompts of {short.words} and {longer.words} words count as {short.tokens} and {longer.tokens} tokens"
        )
    return Measure(short, longer)


def _lines(words: int) -> str:
    whole, left = divmod(words, LINE)
    return _LINE * whole + (" ".join(_WORDS[:left]) + "\n" if left else "")
