"""Which prompt sizes to try next, and what was found: the search for the largest context that holds. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_SIZE = re.compile(r"(\d+)([kKmM]?)")
_MULTIPLES = {"": 1, "k": 2**10, "m": 2**20}
#: Prompts are built from what earlier answers counted; within this share of the target the size is right.
CLOSE = 0.03


@dataclass(frozen=True, slots=True)
class Tier:
    """Requests of one size at once. target: tokens of each prompt. passed: all of them were answered.

    limited_by: who ended a tier that did not pass: `engine`, or `gateway`, whose request rules count prompts in their
    own way and refuse, or shorten the answer, before the engine has its say; empty for one that passed.

    prompt_tokens: the smallest that the engine counted. found: how many answers named what was hidden in their prompt.
    seconds: of the slowest. first_seconds: to its first token. prompt_rate: tokens of all prompts a second until the
    last first token; answer_rate: tokens of all answers a second over the whole tier.
    """

    target: int
    concurrency: int
    passed: bool
    reason: str = ""
    limited_by: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int = 0
    found: int = 0
    seconds: float = 0.0
    first_seconds: float | None = None
    prompt_rate: float | None = None
    answer_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to try. sizes: exactly these, smallest first, up to the first that fails; empty: search.

    first: where a search begins. most: the largest prompt that the model promises to take, in tokens. step: a search
    ends when the largest that passed and the smallest that failed are no farther apart, in tokens.
    """

    sizes: tuple[int, ...] = ()
    first: int = 4096
    most: int = 131072
    step: int = 1024


@dataclass(slots=True)
class Outcome:
    """All tiers in the order in which they were tried. complete: the plan was carried out to its end."""

    tiers: list[Tier] = field(default_factory=list)
    complete: bool = False

    @property
    def limited_by(self) -> str:
        """Who ended the smallest size that failed; empty when none did."""
        failed = min((tier for tier in self.tiers if not tier.passed), key=lambda tier: tier.target, default=None)
        return "" if failed is None else failed.limited_by

    @property
    def ceiling(self) -> int | None:
        """Tokens of the largest prompt that passed, as the engine counted them, below every one that failed; None when
        none did."""
        lowest = min((tier.target for tier in self.tiers if not tier.passed), default=None)
        passed = [tier for tier in self.tiers if tier.passed and (lowest is None or tier.target < lowest)]
        largest = max(passed, key=lambda tier: tier.target, default=None)
        return None if largest is None else largest.prompt_tokens or largest.target


def next_size(plan: Plan, tiers: Sequence[Tier]) -> int | None:
    """The next target; None when there is nothing left to learn.

    A search doubles until a tier fails or the promise is reached, then halves the gap; below the first size it halves
    the size itself.
    """
    failed = min((tier.target for tier in tiers if not tier.passed), default=None)
    passed = max((tier.target for tier in tiers if tier.passed and (failed is None or tier.target < failed)), default=0)
    if plan.sizes:
        left = [size for size in plan.sizes if size not in {tier.target for tier in tiers}]
        return min(left) if left and failed is None else None
    if failed is None:
        if passed >= plan.most:
            return None
        return min(max(plan.first, 2 * passed), plan.most)
    if failed - passed <= plan.step:
        return None
    return (passed + failed) // 2


def parse_sizes(text: str) -> tuple[int, ...]:
    """Tokens of `4k,16k,100000`, smallest first; k is 1024. Raises ValueError."""
    sizes = []
    for part in text.split(","):
        match = _SIZE.fullmatch(part.strip())
        if match is None or int(match[1]) == 0:
            raise ValueError(f"{part.strip()!r} is no size of a prompt: write tokens, such as 4k or 100000")
        sizes.append(int(match[1]) * _MULTIPLES[match[2].lower()])
    return tuple(sorted(set(sizes)))
