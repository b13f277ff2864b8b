"""The sending side of one request: signs of life, late errors, headers, and the forms that errors take."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from plugins.answer import Answer, Sign
from plugins.answer_forms import error_in_stream, in_openai_form, place_headers, refusal_headers, waited_headers
from router.errors import CallerLimit, Cancelled, ModelFailed
from router.store.ticket import Place

CHAT = "/v1/chat/completions"


class Client:
    """What has been sent, and an event for each message."""

    def __init__(self) -> None:
        self.messages: list[MutableMapping[str, Any]] = []
        self.arrived = asyncio.Event()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.messages.append(message)
        self.arrived.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.messages) < count:
                self.arrived.clear()
                await self.arrived.wait()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


def head(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def waiting() -> Sign:
    return Sign(b": waiting\n\n")


async def test_an_answer_passes_with_our_headers() -> None:
    client = Client()
    answer = Answer(client.send, CHAT, 60)
    answer.set_headers({"X-Hearth-Model": "m"})
    await answer.send(head(200, (b"a", b"b")))
    await answer.send(part(b"1", more=True))
    assert not answer.complete
    await answer.send(part(b"2"))
    assert answer.complete
    assert client.messages[0]["headers"] == [(b"a", b"b"), (b"x-hearth-model", b"m")]
    assert client.body == b"12"


async def test_comments_come_until_the_answer_begins() -> None:
    client = Client()
    answer = Answer(client.send, CHAT, 0.001)
    answer.keep_alive(waiting)
    await client.until(4)
    await answer.send(head(200))
    sent = len(client.messages)
    await answer.send(part(b"data: 1\n\n"))
    assert [message["type"] for message in client.messages].count("http.response.start") == 1
    assert client.messages[0]["status"] == 200
    assert client.messages[1]["body"] == b": waiting\n\n"
    assert len(client.messages) == sent + 1
    answer.keep_alive(waiting)
    await answer.close()
    assert len(client.messages) == sent + 1


async def test_the_first_sign_tells_where_the_caller_stands() -> None:
    async def placed() -> Sign:
        return Sign(b": here\n\n", {"X-Hearth-Position": "2"})

    client = Client()
    answer = Answer(client.send, CHAT, 60)
    answer.set_headers({"X-Hearth-Model": "m"})
    answer.keep_alive(placed, 0.001)
    await client.until(2)
    headers = dict(client.messages[0]["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert (headers[b"x-hearth-model"], headers[b"x-hearth-position"]) == (b"m", b"2")
    await answer.close()


async def test_a_sign_without_a_body_commits_nothing() -> None:
    asked = asyncio.Event()
    signs = [Sign(b""), Sign(b""), Sign(b": at last\n\n")]

    async def sparing() -> Sign:
        if len(signs) == 1:
            asked.set()
        return signs.pop(0) if len(signs) > 1 else signs[0]

    client = Client()
    answer = Answer(client.send, CHAT, 0.001)
    answer.keep_alive(sparing)
    await client.until(2)
    assert asked.is_set()
    assert client.messages[1]["body"] == b": at last\n\n"
    await answer.close()


async def test_an_answer_does_not_wait_for_a_sign_that_is_being_asked_for() -> None:
    asked, never = asyncio.Event(), asyncio.Event()

    async def slow() -> Sign:
        asked.set()
        await never.wait()
        return Sign(b": too late\n\n")

    client = Client()
    answer = Answer(client.send, CHAT, 0.001)
    answer.keep_alive(slow)
    async with asyncio.timeout(5):
        await asked.wait()
        await answer.send(head(200))
        await answer.send(part(b"data: 1\n\n", more=True))
        never.set()
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))
    await answer.send(part(b""))
    assert client.body == b"data: 1\n\n"
    await answer.close()


async def test_a_sign_that_is_being_sent_is_not_torn_apart() -> None:
    client = Client()
    sending, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(message: MutableMapping[str, Any]) -> None:
        sending.set()
        await go_on.wait()
        await client.send(message)

    answer = Answer(slowly, CHAT, 0.001)
    answer.keep_alive(waiting)
    async with asyncio.timeout(5):
        await sending.wait()
        begun = asyncio.create_task(answer.send(head(200)))
        go_on.set()
        await begun
    assert client.body == b": waiting\n\n"
    await answer.close()


async def test_an_error_after_a_comment_is_told_in_the_stream() -> None:
    client = Client()
    answer = Answer(client.send, CHAT, 0.001)
    answer.keep_alive(waiting)
    await client.until(2)
    await answer.send(head(503))
    body = json.dumps({"error": {"message": "no", "type": "model_failed"}}).encode()
    await answer.send(part(body[:10], more=True))
    await answer.send(part(body[10:]))
    assert client.body.endswith(b'data: {"error": {"message": "no", "type": "model_failed"}}\n\ndata: [DONE]\n\n')
    assert client.messages[-1]["more_body"] is False


async def test_a_compressed_error_after_a_comment_is_told_in_plain_text() -> None:
    client = Client()
    answer = Answer(client.send, CHAT, 0.001)
    answer.keep_alive(waiting)
    await client.until(2)
    await answer.send(head(503, (b"content-encoding", b"gzip")))
    await answer.send(part(gzip.compress(b'{"error": {"message": "no"}}')))
    assert b'data: {"error": {"message": "no"}}\n\n' in client.body


async def test_an_error_before_any_comment_keeps_its_status() -> None:
    client = Client()
    answer = Answer(client.send, CHAT, 60)
    answer.set_headers({"Retry-After": "3"})
    await answer.send(head(503, (b"content-length", b"99"), (b"content-encoding", b"gzip")))
    await answer.send(part(gzip.compress(b'{"detail": "framework"}')))
    assert client.messages[0]["status"] == 503
    headers = dict(client.messages[0]["headers"])
    assert headers == {b"retry-after": b"3", b"content-length": str(len(client.body)).encode()}
    assert json.loads(client.body)["error"]["message"] == "framework"


async def test_our_own_refusal_replaces_the_answer() -> None:
    client = Client()
    answer = Answer(client.send, "/v1/messages", 60)
    answer.mute()
    await answer.send(head(500))
    await answer.send(part(b"what LiteLLM says"))
    await answer.refuse(413, "request_too_large", "too much", "body")
    assert [message["type"] for message in client.messages] == ["http.response.start", "http.response.body"]
    assert client.messages[0]["status"] == 413
    error = {"message": "too much", "type": "request_too_large", "param": "body", "code": "413"}
    assert json.loads(client.body) == {"type": "error", "error": error}


@pytest.mark.parametrize(
    ("path", "event"),
    [
        (CHAT, b'data: {"error": {"message": "m", "type": "t", "param": null, "code": "503"}}\n\ndata: [DONE]\n\n'),
        ("/v1/messages", b'event: error\ndata: {"type": "error", "error": {"type": "t", "message": "m"}}\n\n'),
        (
            "/v1/responses",
            b"event: error\n"
            b'data: {"type": "error", "sequence_number": 0, "code": "503", "message": "m", "param": null}\n\n',
        ),
    ],
)
def test_each_address_has_its_own_form_of_error(path: str, event: bytes) -> None:
    body = {"error": {"message": "m", "type": "t", "param": None, "code": "503"}}
    assert error_in_stream(json.dumps(body).encode(), path) == event


@pytest.mark.parametrize(
    "body", [b"Internal Server Error", b"\xff", b'{"detail": "gone"}', b'"text"', b"[1]", b"17", b"null"]
)
def test_an_error_of_any_form_can_be_told_in_a_stream(body: bytes) -> None:
    for path in (CHAT, "/v1/messages", "/v1/responses"):
        lines = error_in_stream(body, path).decode().splitlines()
        assert json.loads(next(line for line in lines if line.startswith("data: "))[6:])


@pytest.mark.parametrize("body", [b'{"error": {"message": "m"}}', b"text", b"[1]", b"null", b""])
def test_an_error_in_openai_form_stays(body: bytes) -> None:
    assert in_openai_form(body, 400, CHAT) == body


def test_the_frameworks_error_gets_openai_form() -> None:
    body = {"detail": [{"loc": ["body", "file"], "msg": "Field required"}, {"loc": ["body", "model"], "msg": "Bad"}]}
    error = json.loads(in_openai_form(json.dumps(body).encode(), 422, CHAT))["error"]
    assert error["message"] == "body.file: Field required; body.model: Bad"
    assert (error["type"], error["code"]) == ("invalid_request_error", "422")


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (59.9, "60")])
def test_retry_after_is_rounded_up(seconds: float, header: str) -> None:
    assert refusal_headers(ModelFailed("x", model="m", retry_after=seconds))["Retry-After"] == header


def test_refusal_headers_say_what_is_known() -> None:
    refusal = CallerLimit(
        "x", model="m", phase="starting", position=3, expected_seconds=12.4, at_most_seconds=99.1, retry_after=12.4
    )
    assert refusal_headers(refusal) == {
        "X-Hearth-Model": "m",
        "X-Hearth-Phase": "starting",
        "X-Hearth-Position": "3",
        "X-Hearth-Expected-Seconds": "12",
        "X-Hearth-At-Most-Seconds": "100",
        "Retry-After": "13",
    }
    assert refusal_headers(CallerLimit("x")) == {}


def test_place_headers_say_what_is_known() -> None:
    assert place_headers("m", Place("asleep", 2, 40.0, 360.0)) == {
        "X-Hearth-Model": "m",
        "X-Hearth-Phase": "asleep",
        "X-Hearth-Position": "2",
        "X-Hearth-Expected-Seconds": "40",
        "X-Hearth-At-Most-Seconds": "360",
    }
    assert place_headers("m", Place("ready", 0, None)) == {"X-Hearth-Model": "m", "X-Hearth-Phase": "ready"}


def test_only_what_waited_says_for_how_long() -> None:
    assert waited_headers(None) == {}
    assert waited_headers(0.04) == {"X-Hearth-Waited-Seconds": "0.0"}
    assert waited_headers(61.26) == {"X-Hearth-Waited-Seconds": "61.3"}


def test_headers_of_unusual_names_can_be_sent() -> None:
    answer = Answer(Client().send, CHAT, 60)
    answer.set_headers({"X-Hearth-Model": "\u65e5\u672c"})


async def test_a_cut_before_the_answer_is_a_refusal() -> None:
    client = Client()
    answer = Answer(client.send, CHAT, 60)
    await answer.cut(Cancelled("not wanted"))
    await answer.send(head())
    await answer.send(part(b"too late"))
    assert client.messages[0]["status"] == 499
    assert json.loads(client.body)["error"] == {
        "message": "not wanted",
        "type": "request_cancelled",
        "param": None,
        "code": "499",
    }
    assert not client.messages[-1]["more_body"]


@pytest.mark.parametrize("begun", ["by the answer", "by a sign of life"])
async def test_a_cut_in_a_stream_is_its_last_event(begun: str) -> None:
    client = Client()
    answer = Answer(client.send, CHAT, 0)
    if begun == "by the answer":
        await answer.send(head(200, (b"content-type", b"text/event-stream; charset=utf-8")))
        await answer.send(part(b"data: {}\n\n", more=True))
    else:
        answer.keep_alive(waiting)
        await client.until(2)
    await answer.cut(Cancelled("not wanted"))
    await answer.send(part(b"data: more\n\n", more=True))
    await answer.close()
    *_, error, done = [line for line in client.body.decode().splitlines() if line]
    assert json.loads(error.removeprefix("data: "))["error"]["message"] == "not wanted"
    assert done == "data: [DONE]"
    assert not client.messages[-1]["more_body"]


async def test_what_is_sent_in_one_piece_is_not_cut_in_the_middle() -> None:
    client = Client()
    answer = Answer(client.send, CHAT, 60)
    await answer.send(head(200, (b"content-type", b"application/json")))
    await answer.cut(Cancelled("not wanted"))
    await answer.send(part(b"whole"))
    assert client.body == b"whole"
