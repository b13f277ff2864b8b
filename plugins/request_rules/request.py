"""A request as the rules see it: what LiteLLM hands to its hook, and what has been changed of it so far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

Data = dict[str, Any]


class Shape(StrEnum):
    """The API that a request was made to. LiteLLM's hook gets each body as its client sent it, not translated."""

    CHAT = "chat completions"
    COMPLETION = "completions"
    RESPONSES = "responses"
    MESSAGES = "messages"


#: By LiteLLM's name for the call. Calls that generate nothing (embeddings, rerank, speech) have no shape.
_SHAPES = {
    "acompletion": Shape.CHAT,
    "completion": Shape.CHAT,
    "atext_completion": Shape.COMPLETION,
    "text_completion": Shape.COMPLETION,
    "aresponses": Shape.RESPONSES,
    "responses": Shape.RESPONSES,
    "anthropic_messages": Shape.MESSAGES,
}

#: Where the conversation is, which is also how errors name it.
_CONVERSATION = {
    Shape.CHAT: "messages",
    Shape.COMPLETION: "prompt",
    Shape.RESPONSES: "input",
    Shape.MESSAGES: "messages",
}

TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
IMAGE_PARTS = frozenset({"image", "image_url", "input_image"})


def shape_of(call_type: str) -> Shape | None:
    """The shape of a call; None when the rules have nothing to say about its kind."""
    return _SHAPES.get(call_type)


@dataclass(frozen=True, slots=True)
class Request:
    """data: as LiteLLM has it; rules never change it in place. changes: what was done, for the caller to read."""

    shape: Shape
    data: Data
    changes: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The parameter with the conversation or the prompt."""
        return _CONVERSATION[self.shape]

    @property
    def extra(self) -> Data:
        """`extra_body`, which LiteLLM passes on as if it stood outside; empty when there is none."""
        extra = self.data.get("extra_body")
        return extra if isinstance(extra, dict) else {}

    @property
    def conversation(self) -> Sequence[Any]:
        """Messages or input items; empty where the prompt is bare text."""
        found = self.data.get(self.where)
        return found if self.shape is not Shape.COMPLETION and isinstance(found, list) else ()

    def changed(self, *changes: str, values: Data | None = None, without: Iterable[str] = ()) -> Request:
        """This request with the keys in `without` left out, of `extra_body` too, and `values` set; `changes` say so, in
        words that have nothing of the prompt and may stand in a header."""
        left_out = frozenset(without)
        data = {key: value for key, value in self.data.items() if key not in left_out}
        if "extra_body" in data and left_out & self.extra.keys():
            data["extra_body"] = {key: value for key, value in self.extra.items() if key not in left_out}
        data |= values or {}
        return replace(self, data=data, changes=tuple(dict.fromkeys((*self.changes, *changes))))


def parts_of(content: Any) -> Iterator[dict[str, Any]]:
    """The parts of a content, and those inside a tool's result; results have none inside."""
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict):
            yield part
            inner = part.get("content")
            yield from (each for each in inner if isinstance(each, dict)) if isinstance(inner, list) else ()
