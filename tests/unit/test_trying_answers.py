"""How answers are read and judged, and what a tier of them shows."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import pytest

from router.trying.asking import Answer, NoAnswer, add_event, whole_answer
from router.trying.ceiling import Outcome
from router.trying.picture import png
from router.trying.report import Subject, as_json, as_markdown
from router.trying.smoke import Failed, judge_tool_call, require_said
from router.trying.soak import Load, Sent, judge

pytestmark = pytest.mark.unit


def said(**fields: Any) -> Answer:
    return Answer(**{"text": "hi", "finish_reason": "stop", "prompt_tokens": 1000, "completion_tokens": 3, "done": True}
                  | fields)  # fmt: skip


def call(name: str, arguments: object) -> Answer:
    return Answer(tool_calls=[{"function": {"name": name, "arguments": arguments}}])


def test_a_whole_answer_is_read() -> None:
    message = {"content": None, "reasoning_content": "hm", "tool_calls": [{"function": {}}]}
    body = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}}
    found = whole_answer(json.dumps(body).encode())
    assert (found.text, found.reasoning, len(found.tool_calls), found.prompt_tokens) == ("", "hm", 1, 3)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"choices": []}', b'{"choices": [{"message": "x"}]}'])
def test_what_is_no_answer_is_told(body: bytes) -> None:
    with pytest.raises(NoAnswer, match="form"):
        whole_answer(body)


def test_a_stream_is_put_together() -> None:
    found = Answer()
    events = [
        {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
        {"choices": [{"delta": {"content": "one"}}]},
        {"choices": [{"delta": {"content": " two"}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}},
    ]
    assert [add_event(found, json.dumps(event)) for event in events] == [False, True, True, False]
    assert add_event(found, "[DONE]") is False
    assert (found.text, found.chunks, found.done, found.prompt_tokens) == ("one two", 3, True, 5)
    with pytest.raises(NoAnswer, match="the engine went away"):
        add_event(found, '{"error": {"message": "the engine went away"}}')
    with pytest.raises(NoAnswer, match="form"):
        add_event(found, '{"choices": [')


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"text": ""}, "empty"), ({"finish_reason": ""}, "finish_reason"), ({"completion_tokens": None}, "usage")],
)
def test_what_an_answer_must_have(fields: dict[str, Any], why: str) -> None:
    require_said(said())
    require_said(said(text="", reasoning="only thoughts"))
    with pytest.raises(Failed, match=why):
        require_said(said(**fields))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer(text="It is sunny.", finish_reason="stop"), "in words"),
        (Answer(text="Let me", finish_reason="length"), "within"),
        (call("get_time", "{}"), "get_time"),
        (call("get_weather", '{"city": "Lis'), "not JSON"),
        (call("get_weather", "{}"), "no city"),
        (call("get_weather", "[1]"), "no city"),
        (Answer(tool_calls=[{}]), "form"),
    ],
)
def test_a_tool_call_must_be_right(answer: Answer, why: str) -> None:
    assert judge_tool_call(call("get_weather", '{"city": "Lisbon"}')) == 'get_weather({"city": "Lisbon"})'
    with pytest.raises(Failed, match=why):
        judge_tool_call(answer)


def test_a_tier_passes_when_all_its_requests_do() -> None:
    sent = [Sent("1234", said(text="it is 1234", first_seconds=2.0)), Sent("5678", said(first_seconds=4.0))]
    tier = judge(1000, sent, 10.0, Load(2))
    assert (tier.passed, tier.found, tier.prompt_tokens, tier.completion_tokens) == (True, 1, 1000, 6)
    assert (tier.first_seconds, tier.prompt_rate, tier.answer_rate) == (4.0, 500.0, 0.6)
    missed = judge(1000, sent, 10.0, Load(2, needle=True))
    assert (missed.passed, missed.reason) == (False, "1 of 2: 1 of 2 did not name the number in their prompt")


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (Sent("1", None, "503: no"), "1 of 2: 503: no"),
        (Sent("1", said(text="")), "empty"),
        (Sent("1", said(done=False)), "DONE"),
        (Sent("1", said(prompt_tokens=None)), "usage"),
        (Sent("1", said(prompt_tokens=800)), "counted 800 tokens"),
        (Sent("1", said(finish_reason="length")), "room for 3 tokens"),
    ],
)
def test_one_bad_request_fails_its_tier(bad: Sent, why: str) -> None:
    tier = judge(1000, [Sent("2", said()), bad], 1.0, Load(2))
    assert not tier.passed
    assert why in tier.reason


def test_reports_say_what_was_found() -> None:
    subject = Subject("m", "2026-01-31T12:00:00Z", 4096, Load(concurrency=2))
    tiers = [judge(size, [Sent("1", said(prompt_tokens=size)), sent], 1.0, Load(2))
             for size, sent in ((1000, Sent("2", said())), (2000, Sent("2", None, "400: too long")))]  # fmt: skip
    plain = as_json(subject, Outcome(tiers))
    assert (plain["ceiling"], plain["complete"], len(plain["tiers"])) == (1000, False, 2)
    text = as_markdown(subject, Outcome(tiers))
    assert "prompts of 1,000 tokens hold" in text
    assert "not finished" in text
    assert "- 2,000 tokens: 1 of 2: 400: too long" in text
    assert "not finished" not in as_markdown(subject, Outcome(tiers, complete=True))
    assert "No size" in as_markdown(subject, Outcome(tiers[1:], complete=True))


def test_the_picture_is_a_png_of_one_colour() -> None:
    data = png(3, (1, 2, 3))
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size]) == (zlib.crc32(kind + body),)
        chunks[kind] = body
        at += 12 + size
    assert struct.unpack(">II", chunks[b"IHDR"][:8]) == (3, 3)
    assert zlib.decompress(chunks[b"IDAT"]) == (b"\0" + bytes((1, 2, 3)) * 3) * 3
