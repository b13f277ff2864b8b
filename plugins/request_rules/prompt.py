"""What of a request becomes prompt, and so takes of the context: texts, tools, images, a little for each message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from plugins.request_rules.request import IMAGE_PARTS, TEXT_PARTS, Request, Shape, parts_of

#: What a chat template puts around a message, and at the end: the least that is usual.
_PER_MESSAGE = 3
_AT_THE_END = 3
#: No template adds more than this to what the bytes of a request already allow for.
_SLACK = 256


@dataclass(slots=True)
class Prompt:
    """texts: in order, to be counted. tokens: what is known without counting. images: how many."""

    texts: list[str] = field(default_factory=list)
    tokens: int = 0
    images: int = 0
    tools: str = ""

    def at_most(self, image_tokens: int) -> int:
        """Tokens that it can be at the very most: a token is at least one byte of UTF-8. Cheap."""
        whole = sum(_bytes(text) + 1 for text in (*self.texts, self.tools))
        return whole + self.tokens + self.images * image_tokens + _SLACK

    @property
    def letters(self) -> int:
        """Length of all that has to be counted."""
        return sum(map(len, self.texts)) + len(self.tools)


def prompt_of(request: Request) -> Prompt:
    """The prompt of a request. Content that is neither text nor image (audio, files) is not counted."""
    if request.shape is Shape.COMPLETION:
        return _bare(request.data.get("prompt"))
    prompt = Prompt(tokens=_AT_THE_END)
    data = request.data
    for instructions in (data.get("system"), data.get("instructions")):
        if instructions:
            prompt.tokens += _PER_MESSAGE
            _content(instructions, prompt)
    if isinstance(data.get(request.where), str):
        prompt.tokens += _PER_MESSAGE
        prompt.texts.append(data[request.where])
    for item in request.conversation:
        prompt.tokens += _PER_MESSAGE
        if isinstance(item, dict):
            _item(item, prompt)
    offered = [tool for key in ("tools", "functions") if isinstance(data.get(key), list) for tool in data[key]]
    if offered:
        prompt.tools = _json(offered)
    return prompt


def _item(item: dict[str, Any], prompt: Prompt) -> None:
    _content(item.get("content"), prompt)
    _content(item.get("output"), prompt)
    calls = item.get("tool_calls")
    functions = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    for function in (*functions, item.get("function_call"), item if item.get("type") == "function_call" else None):
        if isinstance(function, dict):
            for key in ("name", "arguments"):
                if isinstance(function.get(key), str):
                    prompt.texts.append(function[key])


def _content(content: Any, prompt: Prompt) -> None:
    if isinstance(content, str):
        prompt.texts.append(content)
        return
    if isinstance(content, list):
        prompt.texts.extend(part for part in content if isinstance(part, str))
    for part in parts_of(content):
        kind = part.get("type")
        if kind in TEXT_PARTS and isinstance(part.get("text"), str):
            prompt.texts.append(part["text"])
        elif kind in IMAGE_PARTS:
            prompt.images += 1
        elif kind == "tool_use":
            prompt.texts.append(f"{part.get('name')} {_json(part.get('input'))}")
        elif kind == "tool_result" and isinstance(part.get("content"), str):
            prompt.texts.append(part["content"])


def _bare(prompt: Any) -> Prompt:
    """The longest of the prompts: each is answered on its own."""
    if isinstance(prompt, str):
        return Prompt(texts=[prompt])
    if not isinstance(prompt, list):
        return Prompt()
    if all(isinstance(each, int) for each in prompt):
        return Prompt(tokens=len(prompt))
    texts = [each for each in prompt if isinstance(each, str)]
    tokens = max((len(each) for each in prompt if isinstance(each, list)), default=0)
    length: Callable[[str], int] = _bytes
    longest = max(texts, key=length, default="")
    return Prompt(texts=[longest]) if _bytes(longest) > tokens else Prompt(tokens=tokens)


def _json(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
