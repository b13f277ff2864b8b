"""What a streaming caller hears while it waits: when, in which words, and in the form of which address."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from plugins import loading_messages
from plugins.answer import Answer
from plugins.loading_messages import Progress, dialect, loading_text
from plugins.request_scope import RequestScope
from router.errors import StoreUnavailable
from router.settings import LoadingMessages
from router.store.admission import Admission
from router.store.ticket import Place, Ticket

CHAT = "/v1/chat/completions"
OFF, REASONING, CONTENT = LoadingMessages
BODY = {"model": "big", "stream": True}


class Store(Admission):
    """Says what the test wants it to say of a place; None: Redis is away."""

    def __init__(self, place: Place | None) -> None:
        super().__init__("unix:///nowhere/redis.sock")
        self.answer = place

    async def place(self, ticket: Ticket) -> Place:
        if self.answer is None:
            raise StoreUnavailable("away")
        return self.answer


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1.7e9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(loading_messages, "time", clock)
    return clock


@pytest.fixture
async def store() -> Store:
    return Store(Place("starting", 1, 40.0))


async def nowhere(_: MutableMapping[str, Any]) -> None: ...


def progress(store: Store, shown_in: LoadingMessages, path: str = CHAT) -> tuple[Progress, Ticket]:
    ticket = Ticket("big")
    scope = RequestScope(store, Answer(nowhere, path, 5.0), [])
    return Progress(scope, ticket, shown_in, BODY), ticket


def shown(body: bytes) -> str:
    """The text of one chunk."""
    [choice] = json.loads(body.decode().removeprefix("data: "))["choices"]
    return str(choice["delta"].get("reasoning_content") or choice["delta"].get("content") or "")


# --- when


async def test_comments_have_a_place_and_headers(store: Store) -> None:
    signs, ticket = progress(store, OFF)
    assert signs.every is None
    sign = await signs()
    assert sign.body == b": hearth: big is starting, place 1 in line, about 40s\n\n"
    assert sign.headers == {
        "X-Hearth-Model": "big",
        "X-Hearth-Phase": "starting",
        "X-Hearth-Position": "1",
        "X-Hearth-Expected-Seconds": "40",
    }
    store.answer = Place("asleep", 2, None, 360.0)
    assert (await signs()).body == b": hearth: big is asleep, place 2 in line, at most 6m\n\n"
    store.answer = None
    assert (await signs()).body == b": hearth: waiting\n\n"
    ticket.started = 1.0
    assert (await signs()).body == b": hearth: big is working on the answer\n\n"


async def test_a_message_comes_when_there_is_news_and_a_sign_of_life_when_there_is_none(
    store: Store, clock: Clock
) -> None:
    signs, ticket = progress(store, REASONING)
    assert signs.every == 1.0
    clock.now += 1
    first = await signs()
    assert shown(first.body) == "Waking big: place 1 in line, about 40 s\n"
    assert first.headers["X-Hearth-Position"] == "1"
    for _ in range(4):  # the estimate runs down, by less than what counts
        clock.now += 1
        store.answer = Place("starting", 1, 38.0)
        assert (await signs()).body == b""
    clock.now += 1
    quiet = (await signs()).body
    assert json.loads(quiet.removeprefix(b"data: "))["choices"][0]["delta"] == {"reasoning_content": ""}
    clock.now += 1
    store.answer = Place("starting", 1, 30.0)
    assert shown((await signs()).body) == "Waking big: place 1 in line, about 30 s\n"
    ticket.started = clock.now
    clock.now += 4
    assert (await signs()).body == b""
    clock.now += 1
    assert (await signs()).body == b": hearth: big is working on the answer\n\n"


async def test_a_redis_that_is_away_takes_nothing_back(store: Store, clock: Clock) -> None:
    signs, _ = progress(store, CONTENT)
    await signs()
    place, store.answer = store.answer, None
    clock.now += 4
    assert (await signs()).body == b""
    clock.now += 1
    assert (await signs()).body == b": hearth: waiting\n\n"
    store.answer = place
    clock.now += 1
    assert (await signs()).body == b""


# --- in which words


@pytest.mark.parametrize(
    ("place", "waited", "text"),
    [
        (Place("asleep", 2, 41.0, 355.0), 3.0, "Waking big: place 2 in line, about 40 s, at most 6 min"),
        (Place("stopping", 1, None), 23.0, "Waking big: place 1 in line, 20 s so far"),
        (Place("starting", 1, None), 1.0, "Waking big: place 1 in line"),
        (Place("starting", 1, 1.9, 0.0), 9.0, "Waking big: place 1 in line, any moment now"),
        (Place("draining", 4, 100.0), None, "Waiting for big: place 4 in line, about 1.5 min"),
        (Place("ready", 0, None), None, "Waiting for big"),
    ],
)
def test_the_words(place: Place, waited: float | None, text: str) -> None:
    assert loading_text("big", place, waited) == text


@pytest.mark.parametrize(
    ("seconds", "about", "at_most"),
    [
        (3, "5 s", "5 s"),
        (12, "10 s", "15 s"),
        (61, "60 s", "70 s"),
        (89, "1.5 min", "1.5 min"),
        (130, "2 min", "2.5 min"),
        (331, "6 min", "6 min"),
        (3599, "1 h", "1 h"),
        (5000, "1.4 h", "1.4 h"),
        (7201, "2 h", "2.1 h"),
    ],
)
def test_times_are_coarse_and_a_bound_is_never_told_too_low(seconds: float, about: str, at_most: str) -> None:
    text = loading_text("big", Place("starting", 0, seconds, seconds), None)
    assert text == f"Waking big: about {about}, at most {at_most}"


# --- in the form of which address


@pytest.mark.parametrize("path", [CHAT, "/chat/completions", "/engines/big/chat/completions"])
@pytest.mark.parametrize(("shown_in", "key"), [(REASONING, "reasoning_content"), (CONTENT, "content")])
def test_chat(path: str, shown_in: LoadingMessages, key: str) -> None:
    say = dialect(path, shown_in, BODY, "id")
    assert say
    data, end = say("hello\n").decode().removeprefix("data: ").split("\n", 1)
    assert end == "\n"
    chunk = json.loads(data)
    created = chunk.pop("created")
    assert isinstance(created, int)
    assert chunk == {
        "id": "chatcmpl-id",
        "object": "chat.completion.chunk",
        "model": "big",
        "choices": [{"index": 0, "delta": {key: "hello\n"}, "finish_reason": None}],
    }


def test_completions_can_show_content_only() -> None:
    say = dialect("/v1/completions", CONTENT, BODY, "id")
    assert say
    chunk = json.loads(say("hello").removeprefix(b"data: "))
    assert chunk["object"] == "text_completion"
    assert chunk["choices"] == [{"index": 0, "text": "hello", "logprobs": None, "finish_reason": None}]
    assert dialect("/v1/completions", REASONING, BODY, "id") is None


@pytest.mark.parametrize("shown_in", [REASONING, CONTENT])
def test_before_an_anthropic_message_there_are_pings_only(shown_in: LoadingMessages) -> None:
    say = dialect("/v1/messages", shown_in, BODY, "id")
    assert say
    ping = b'event: ping\ndata: {"type": "ping"}\n\n'
    assert say("hello\n") == b": hearth: hello\n\n" + ping
    assert say("") == ping


@pytest.mark.parametrize("shown_in", [REASONING, CONTENT])
def test_nothing_is_legal_before_a_response(shown_in: LoadingMessages) -> None:
    assert dialect("/v1/responses", shown_in, BODY, "id") is None
    assert dialect("/v1/audio/transcriptions", shown_in, {"model": "big", "response_format": "json"}, "id") is None


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/messages", "/v1/responses"])
def test_who_does_not_ask_for_messages_gets_none(path: str) -> None:
    assert dialect(path, OFF, BODY, "id") is None


@pytest.mark.parametrize("form", [{"type": "json_object"}, {"type": "json_schema", "json_schema": {}}])
def test_content_of_a_form_says_nothing_else(form: dict[str, Any]) -> None:
    assert dialect(CHAT, CONTENT, {**BODY, "response_format": form}, "id") is None
    assert dialect(CHAT, REASONING, {**BODY, "response_format": form}, "id")
    assert dialect(CHAT, CONTENT, {**BODY, "response_format": {"type": "text"}}, "id")
