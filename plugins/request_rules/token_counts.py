"""How many tokens a text is: by the model's own tokenizer where it is at hand, else by LiteLLM's counter.

Nothing is ever downloaded. Long texts are counted in pieces and off the event loop, and no further than anybody wants
to know: 60 MB are not tokenized to find that they do not fit into 32768 tokens.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import litellm
from huggingface_hub.errors import HFValidationError
from tokenizers import Tokenizer

log = logging.getLogger(__name__)

#: Letters at a time. Some counters take time with the square of a text without spaces.
_PIECE = 16_384
#: How far before a piece's end a space is looked for, so that no word is torn.
_REACH = 200
#: Up to this many letters are counted at once; more would hold up everybody else.
_SHORT = 8_000
#: Seconds after which a tokenizer that was not there is looked for again.
_LOOK_AGAIN = 60.0


@dataclass(frozen=True, slots=True)
class Counter:
    """exact: it is the model's own tokenizer, not an estimate. count: tokens of one short text."""

    exact: bool
    count: Callable[[str], int]


def _estimate(text: str) -> int:
    # not its token_counter, which writes every text to the debug log
    return len(litellm.encode(text=text))


ESTIMATE = Counter(exact=False, count=_estimate)


class Counters:
    """The counters by the name that the rules give. Loaded when they are first needed, and kept."""

    def __init__(self) -> None:
        self._loaded: dict[str, Counter] = {}
        self._estimates = False
        self._missing_until: dict[str, float] = {}
        self._loading = asyncio.Lock()

    async def counter(self, tokenizer: str | None) -> Counter:
        """The counter for a tokenizer's path or repository; the estimate when there is none here."""
        if tokenizer is not None and tokenizer not in self._loaded:
            async with self._loading:
                if tokenizer not in self._loaded and time.monotonic() >= self._missing_until.get(tokenizer, 0.0):
                    await self._load(tokenizer)
        if tokenizer in self._loaded:
            return self._loaded[tokenizer]
        if not self._estimates:
            await asyncio.to_thread(ESTIMATE.count, "its first text takes LiteLLM a second")
            self._estimates = True
        return ESTIMATE

    async def _load(self, tokenizer: str) -> None:
        loaded = await asyncio.to_thread(load, tokenizer)
        if loaded is None:
            self._missing_until[tokenizer] = time.monotonic() + _LOOK_AGAIN
        else:
            self._loaded[tokenizer] = loaded


def load(tokenizer: str) -> Counter | None:
    """The tokenizer of that path or repository; None when it is not on this machine, or cannot be read."""
    path = _find(tokenizer)
    if path is None:
        log.debug("there is no tokenizer %s on this machine; prompts are estimated", tokenizer)
        return None
    try:
        found = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        log.warning("the tokenizer %s cannot be read, prompts are estimated: %s", path, error)
        return None
    found.no_truncation()
    found.no_padding()
    return Counter(exact=True, count=functools.partial(_count_with, found))


def _count_with(tokenizer: Tokenizer, text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False))


def _find(tokenizer: str) -> Path | None:
    path = Path(tokenizer).expanduser()
    for candidate in (path, path / "tokenizer.json"):
        if candidate.is_file():
            return candidate
    try:
        cached = huggingface_hub.try_to_load_from_cache(tokenizer, "tokenizer.json")
    except HFValidationError:  # a path, then
        return None
    return Path(cached) if isinstance(cached, str) else None


async def count(texts: Iterable[str], counter: Counter, *, letters: int, limit: int) -> int:
    """Tokens of all texts together; a number above `limit` says only that they are more. letters: their length."""
    if letters <= _SHORT:
        return _count(texts, counter, limit)
    return await asyncio.to_thread(_count, texts, counter, limit)


def _count(texts: Iterable[str], counter: Counter, limit: int) -> int:
    total = 0
    for text in texts:
        for piece in pieces(text):
            total += counter.count(piece)
            if total > limit:
                return total
    return total


def pieces(text: str) -> Iterator[str]:
    """The text in pieces, cut before a space where one is near."""
    start = 0
    while len(text) - start > _PIECE:
        end = start + _PIECE
        space = max(text.rfind(" ", end - _REACH, end), text.rfind("\n", end - _REACH, end))
        end = end if space <= start else space
        yield text[start:end]
        start = end
    yield text[start:]
