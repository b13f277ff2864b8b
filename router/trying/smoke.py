"""The standard requests: does a model do, through the gateway, what the configuration says that it can.

Each probe judges what every engine must give, never how clever an answer is: a wrong word in it fails nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from router.catalogue import Card
from router.trying.asking import Answer, Asker, NoAnswer
from router.trying.picture import data_url, png

#: Enough for a model that thinks before it speaks to say something; it may be cut off.
_TOKENS = 128
_TOOL = "get_weather"
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": _TOOL,
            "description": "The weather in a city now.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "The city's name."}},
                "required": ["city"],
            },
        },
    }
]
#: Thoughts come first, and count.
_TOOL_TOKENS = 1024
_LOOK = "Which colour is this picture? One word."


@dataclass(frozen=True, slots=True)
class Result:
    """One probe of one model. passed: None when the model is not said to be able to do it, so it was not tried.
    detail: what came, or why it failed. seconds: the whole probe, a wait for the model included."""

    model: str
    probe: str
    passed: bool | None
    detail: str
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"seconds": round(self.seconds, 3)}


class Failed(Exception):
    """What came is not what should have come. The message says what it was."""


Probe = Callable[[Asker, str], Awaitable[str]]
#: With every probe: a model that passed once should not fail the next time by chance.
_EVEN = {"temperature": 0.0}


async def text(asker: Asker, model: str) -> str:
    """A whole answer with words in it and its usage. Raises Failed or NoAnswer."""
    answer = await asker.chat(model, _user("Say hello in one short sentence."), max_tokens=_TOKENS, **_EVEN)
    require_said(answer)
    return f"{answer.prompt_tokens} tokens in, {answer.completion_tokens} out, ended by {answer.finish_reason}"


async def stream(asker: Asker, model: str) -> str:
    """A stream in more than one piece, with its usage and its end."""
    answer = await asker.stream(model, _user("Count from one to ten in words."), max_tokens=_TOKENS, **_EVEN)
    require_said(answer)
    if answer.chunks < 2:
        raise Failed("the whole answer came in one piece")
    if not answer.done:
        raise Failed("the stream ended without [DONE]")
    return f"{answer.chunks} pieces, {answer.completion_tokens} tokens"


async def tools(asker: Asker, model: str) -> str:
    """A call of the offered tool with arguments that fit it."""
    ask = _user(f"What is the weather in Lisbon now? Call the tool {_TOOL}.")
    answer = await asker.chat(model, ask, tools=_TOOLS, tool_choice="auto", max_tokens=_TOOL_TOKENS, **_EVEN)
    return judge_tool_call(answer)


async def vision(asker: Asker, model: str) -> str:
    """An answer to a picture, which must have cost tokens: an engine that drops pictures answers just the same."""
    parts = [{"type": "text", "text": _LOOK}, {"type": "image_url", "image_url": {"url": data_url(png())}}]
    seen = await asker.chat(model, [{"role": "user", "content": parts}], max_tokens=_TOKENS, **_EVEN)
    require_said(seen)
    blind = await asker.chat(model, _user(_LOOK), max_tokens=1, **_EVEN)
    picture = (seen.prompt_tokens or 0) - (blind.prompt_tokens or 0)
    if picture <= 0:
        raise Failed("the picture added no tokens to the prompt: the engine has not looked at it")
    named = "red" in seen.text.lower()
    return f"the picture took {picture} tokens; {'it is red, says the model' if named else 'its colour was not named'}"


#: By name, with whether a model is said to be able to do it.
PROBES: dict[str, tuple[Probe, Callable[[Card], bool]]] = {
    "text": (text, lambda _: True),
    "stream": (stream, lambda _: True),
    "tools": (tools, lambda card: card.tools is True),
    "vision": (vision, lambda card: card.vision is True),
}


async def try_model(asker: Asker, card: Card, told: Callable[[Result], None], began: Callable[[str], None]) -> bool:
    """All probes of one model, one after another. told: gets each result. began: the name of each probe that is sent.
    Returns whether none failed."""
    fine = True
    for name, (probe, applies) in PROBES.items():
        if not applies(card):
            told(Result(card.name, name, None, "not among what it is said to do"))
            continue
        began(name)
        start = time.monotonic()
        try:
            passed, detail = True, await probe(asker, card.name)
        except (Failed, NoAnswer) as error:
            passed, detail, fine = False, str(error), False
        told(Result(card.name, name, passed, detail, time.monotonic() - start))
    return fine


def require_said(answer: Answer) -> None:
    """Raises Failed unless the answer has words, a reason for its end, and its usage."""
    if not (answer.text or answer.reasoning):
        raise Failed("the answer is empty")
    if not answer.finish_reason:
        raise Failed("the answer has no finish_reason")
    if not answer.prompt_tokens or not answer.completion_tokens:
        raise Failed("the answer has no usage")


def judge_tool_call(answer: Answer) -> str:
    """What was called. Raises Failed unless it is the tool, with arguments that are JSON and have its parameter."""
    if not answer.tool_calls:
        if answer.finish_reason == "length":
            raise Failed(f"no tool was called within {_TOOL_TOKENS} tokens")
        raise Failed("it answered in words and called no tool; has the engine the right --tool-call-parser?")
    try:
        function = answer.tool_calls[0]["function"]
        name, arguments = function["name"], function["arguments"]
    except (LookupError, TypeError) as error:
        raise Failed("the tool call has not the form of one") from error
    if name != _TOOL:
        raise Failed(f"it called {name!r}, which it was not offered")
    try:
        given = json.loads(arguments)
    except (ValueError, TypeError) as error:
        raise Failed(f"the call's arguments are not JSON: {str(arguments)[:80]!r}") from error
    if not isinstance(given, dict) or not isinstance(given.get("city"), str):
        raise Failed(f"the call's arguments have no city: {str(arguments)[:80]!r}")
    return f"{name}({arguments})"


def _user(content: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content}]
