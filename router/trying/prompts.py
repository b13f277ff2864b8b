"""Prompts of a wanted number of tokens, for an engine whose tokenizer is not at hand.

A prompt is one line said again and again, so its tokens grow evenly; two answers tell how many a line takes and how
many come on top. Each prompt begins in its own way: an engine that keeps the beginnings of prompts (prefix caching)
would otherwise hold one for all of them, and the tier would try less memory than it says.
"""

from __future__ import annotations

from dataclasses import dataclass

_LINE = "The lamp in the harbour is lit at dusk, the boats come home, and nobody counts them.\n"
_ASK = "\nHow many boats came home, as the line with the number says? Answer with the number only."
#: How many lines the two measuring prompts have.
MEASURES = (8, 64)
#: Tokens by which two prompts of as many lines may differ: their numbers do not split alike.
_SLACK = 8


@dataclass(frozen=True, slots=True)
class Prompt:
    """text: of the one message. hidden: the number that stands in its middle."""

    text: str
    hidden: str


@dataclass(frozen=True, slots=True)
class Measure:
    """What an engine counts. per_line: tokens of a line. fixed: tokens of everything else, the template included."""

    per_line: float
    fixed: float

    def lines(self, target: int) -> int:
        """The most lines with which a prompt has no more than `target` tokens; none is less than one."""
        return max(1, int((target - self.fixed - _SLACK) / self.per_line))

    @property
    def least(self) -> int:
        """The smallest target that can be built."""
        return int(self.fixed + self.per_line) + _SLACK + 1


def build(lines: int, seed: int) -> Prompt:
    """A prompt of that many lines. seed: another one gives another beginning and another hidden number."""
    hidden = f"{(seed * 7919 + 104729) % 900_000 + 100_000}"
    before = lines // 2
    needle = f"Tonight {hidden} boats came home.\n"
    return Prompt(f"Log {seed:08d}.\n{_LINE * before}{needle}{_LINE * (lines - before)}{_ASK}", hidden)


def measure(counted: tuple[int, int], lines: tuple[int, int] = MEASURES) -> Measure:
    """From the tokens that an engine counted in two prompts of so many lines. Raises ValueError when the longer one is
    not longer: the engine counts something else, or cuts prompts off."""
    per_line = (counted[1] - counted[0]) / (lines[1] - lines[0])
    if per_line <= 0:
        raise ValueError(f"prompts of {lines[0]} and {lines[1]} lines count as {counted[0]} and {counted[1]} tokens")
    return Measure(per_line, counted[0] - per_line * lines[0])
