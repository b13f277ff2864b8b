"""Images are refused for models that take text only, wherever they are in a conversation."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.request_rules import images
from plugins.request_rules.request import Request, Shape
from router.errors import Unfit
from router.request_rules import RequestRules

TEXT = {"role": "user", "content": [{"type": "text", "text": "what is on it?"}]}
CHAT_IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
INPUT_IMAGE = {"type": "input_image", "image_url": "https://example.org/a.png"}
MESSAGES_IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
CASES: list[tuple[Shape, str, Any]] = [
    (Shape.CHAT, "messages", {"role": "user", "content": [CHAT_IMAGE]}),
    (Shape.CHAT, "messages", {"role": "tool", "tool_call_id": "1", "content": [CHAT_IMAGE]}),
    (Shape.RESPONSES, "input", {"role": "user", "content": [INPUT_IMAGE]}),
    (Shape.RESPONSES, "input", {"type": "function_call_output", "call_id": "1", "output": [INPUT_IMAGE]}),
    (Shape.MESSAGES, "messages", {"role": "user", "content": [MESSAGES_IMAGE]}),
    (Shape.MESSAGES, "messages", {"role": "user", "content": [{"type": "tool_result", "content": [MESSAGES_IMAGE]}]}),
]


@pytest.mark.parametrize(("shape", "where", "item"), CASES)
def test_an_image_is_refused_with_its_place(shape: Shape, where: str, item: Any) -> None:
    request = Request(shape, {where: [TEXT, item]})
    with pytest.raises(Unfit) as caught:
        images.apply(request, RequestRules(images="refuse"))
    assert (caught.value.param, caught.value.code) == (f"{where}[1]", "unsupported_value")
    assert "takes text only" in caught.value.message
    assert images.apply(request, RequestRules()) is request


@pytest.mark.parametrize(
    "data",
    [{"messages": [TEXT, {"role": "user", "content": "image_url"}]}, {"messages": "image"}, {}, {"messages": [5]}],
)
def test_text_is_not_refused(data: dict[str, Any]) -> None:
    request = Request(Shape.CHAT, data)
    assert images.apply(request, RequestRules(images="refuse")) is request
