"""Text by the token: counting what comes in, making what goes out. The same request always gets the same answer."""

from __future__ import annotations

import hashlib
import math
import re
from itertools import count, islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PIECE = re.compile(r"\s?\w{1,6}|\s?[^\w\s]|\s")
_WORDS = tuple(
    word
    for line in (
        "the model wakes when a request arrives and sleeps again while nobody asks for it so one box serves",
        "many people with patience each answer takes its own time here warm quiet steady bright small early",
        "late river stone garden window letter music clock lantern harbour bridge winter morning copper",
        "silver paper thread signal",
    )
    for word in line.split()
)
"""No word twice, so that no two neighbours are the same."""


def pieces(text: str) -> list[str]:
    """Split text into tokens of at most six letters; joined again they are the text."""
    return _PIECE.findall(text)


def count_tokens(text: str) -> int:
    """How many tokens a text is."""
    return sum(1 for _ in _PIECE.finditer(text))


def token_ids(text: str) -> list[int]:
    """A number for each token of a text, between 0 and 32767, the same for the same token."""
    return [int.from_bytes(_digest("token", piece)[:2], "big") & 0x7FFF for piece in pieces(text)]


def prose(seed: str, length: int) -> Iterator[str]:
    """Yield `length` tokens of text that depends on `seed` alone.

    Neighbours always differ: clients that watch for a stream caught in a loop (a hundred equal chunks) must not
    see one here.
    """
    position = int.from_bytes(_digest("prose", seed)[:4], "big")
    # A stride that shares no factor with the number of words visits every word before one comes again.
    stride = next(s for s in count(7 + position % 11) if math.gcd(s, len(_WORDS)) == 1)
    for index in islice(count(), length):
        word = _WORDS[(position + index * stride) % len(_WORDS)]
        end = "." if index % 12 == 11 else ""
        yield f"{word.capitalize()}{end}" if index == 0 else f" {word}{end}"


def vector(text: str, dimensions: int) -> list[float]:
    """A unit vector of so many dimensions that depends on the text: texts with words in common are closer."""
    total = [0.0] * dimensions
    for word in text.lower().split() or [text]:
        for index, value in enumerate(_noise(word, dimensions)):
            total[index] += value
    length = math.sqrt(math.fsum(value * value for value in total)) or 1.0
    return [value / length for value in total]


def similarity(left: Sequence[float], right: Sequence[float]) -> float:
    """The cosine of two unit vectors, between -1 and 1."""
    return max(-1.0, min(1.0, math.fsum(a * b for a, b in zip(left, right, strict=True))))


def _noise(word: str, dimensions: int) -> Iterator[float]:
    for block in count():
        digest = _digest("vector", word, str(block))
        for index in range(0, len(digest), 2):
            if block * len(digest) // 2 + index // 2 == dimensions:
                return
            yield int.from_bytes(digest[index : index + 2], "big") / 32767.5 - 1.0


def _digest(*parts: str) -> bytes:
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=32).digest()
