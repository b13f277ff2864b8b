"""Loading messages, as the clients that people use read them: they see the wait, and the answer after it is whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from addresses import CHAT, COMPLETIONS, IN_PATH, MESSAGES, RESPONSES, STREAMING, Address
from observer import HI, Observer, deltas, first_line, lines, until

from router.store import keys

pytestmark = pytest.mark.e2e

_LOADING = "X-Hearth-Loading"
_WORDS = 12


class Held:
    """A sleeping model whose load ends when the test says so."""

    name = "faulty"

    def __init__(self, hearth: Observer) -> None:
        self._hearth = hearth

    async def release(self) -> None:
        engine = self._hearth.engines[self.name]

        async def listens() -> bool:
            try:
                return (await engine.http.get("/_simulator/state")).is_success
            except httpx.TransportError:
                return False

        await until(listens, "the engine that loads can be told to go on")
        await engine.faults()

    async def kill(self) -> None:
        async def runs() -> bool:
            return self._hearth.stack.engine_process(self.name) is not None

        await until(runs, "the engine that loads has a process")
        engine = self._hearth.stack.engine_process(self.name)
        assert engine is not None
        engine.kill()


@pytest.fixture
async def held(hearth: Observer) -> AsyncIterator[Held]:
    await hearth.sleep(Held.name)
    hearth.stack.set_options(Held.name, "--fault unhealthy")
    yield Held(hearth)
    hearth.stack.set_options(Held.name)
    await hearth.sleep(Held.name)


def without_names(chunk: dict[str, Any]) -> dict[str, Any]:
    """A chunk without what differs from one answer to the next."""
    return {key: value for key, value in chunk.items() if key not in ("id", "created")}


# --- chat


@pytest.mark.parametrize("address", [CHAT, IN_PATH], ids=str)
@pytest.mark.parametrize(("shown_in", "key"), [("reasoning", "reasoning_content"), ("content", "content")])
async def test_a_chat_shows_the_wait_and_then_the_answer_as_it_is(
    hearth: Observer, held: Held, address: Address, shown_in: str, key: str
) -> None:
    headers = {_LOADING: shown_in}
    waiting = await hearth.http.send(address.request(hearth.http, held.name, headers=headers, stream=True), stream=True)
    assert waiting.status_code == 200
    assert waiting.headers["content-type"].startswith("text/event-stream")
    assert waiting.headers["x-hearth-model"] == held.name
    assert waiting.headers["x-hearth-phase"] in ("asleep", "starting")
    assert waiting.headers["x-hearth-position"] == "1"
    first = json.loads((await first_line(waiting, "data:")).removeprefix("data:"))
    assert first["object"] == "chat.completion.chunk"
    assert first["model"] == held.name
    assert first["choices"][0]["finish_reason"] is None
    delta = first["choices"][0]["delta"]
    assert list(delta) == [key]
    assert delta[key].startswith(f"Waking {held.name}: place 1 in line")
    assert delta[key].endswith("\n")
    await held.release()
    rest = await deltas(waiting)
    told = [chunk for chunk in rest if chunk["id"] == first["id"]]
    answer = rest[len(told) :]
    assert told == rest[: len(told)], "all messages come before the answer"
    assert all(list(chunk["choices"][0]["delta"]) == [key] for chunk in told)
    # the model is awake now: the header changes nothing, and this is the answer that nobody had to wait for
    again = await hearth.http.send(address.request(hearth.http, held.name, headers=headers, stream=True), stream=True)
    assert "x-hearth-waited-seconds" not in again.headers
    assert [without_names(chunk) for chunk in answer] == [without_names(chunk) for chunk in await deltas(again)]
    await waiting.aclose()
    await again.aclose()


async def test_message_and_headers_tell_the_place_and_the_longest_wait(hearth: Observer, held: Held) -> None:
    async with hearth.asking(CHAT.request(hearth.http, held.name)):

        async def planned() -> bool:
            return bool(await hearth.redis.hget(keys.model(held.name), "at_most_at"))

        await until(planned, "the router has said how long the one in line can wait")
        async with hearth.stream(held.name, headers={_LOADING: "reasoning"}) as answer:
            assert answer.headers["x-hearth-position"] == "2"
            at_most = int(answer.headers["x-hearth-at-most-seconds"])
            assert at_most >= int(answer.headers.get("x-hearth-expected-seconds", "0"))
            told = await first_line(answer, "data:")
            assert "place 2 in line" in told
            assert "at most" in told
        await held.release()


@pytest.mark.parametrize("shown_in", ["reasoning", "content"])
async def test_the_openai_sdk_reads_a_chat_with_messages(
    held: Held, openai_client: openai.AsyncOpenAI, shown_in: str
) -> None:
    stream = await openai_client.chat.completions.create(
        model=held.name,
        messages=HI,  # type: ignore[arg-type]
        stream=True,
        stream_options={"include_usage": True},
        extra_headers={_LOADING: shown_in},
    )
    reasoning, content, roles, finished, usage = "", "", [], [], None
    async for chunk in stream:
        if not content + reasoning:
            await held.release()
        usage = chunk.usage or usage
        for choice in chunk.choices:
            reasoning += getattr(choice.delta, "reasoning_content", None) or ""
            content += choice.delta.content or ""
            roles += [choice.delta.role] if choice.delta.role else []
            finished += [choice.finish_reason] if choice.finish_reason else []
    said, answer = (reasoning, content) if shown_in == "reasoning" else content.rsplit("\n\n", 1)
    assert said.startswith(f"Waking {held.name}: ")
    assert len(answer.split()) == _WORDS
    assert (roles, finished) == (["assistant"], ["stop"])
    assert usage
    assert usage.completion_tokens == _WORDS


@pytest.mark.parametrize("shown_in", ["reasoning", "content"])
async def test_the_openai_sdk_joins_messages_and_answer_to_one_completion(
    held: Held, openai_client: openai.AsyncOpenAI, shown_in: str
) -> None:
    async with openai_client.chat.completions.stream(
        model=held.name,
        messages=HI,  # type: ignore[arg-type]
        extra_headers={_LOADING: shown_in},
    ) as stream:
        await anext(aiter(stream))
        await held.release()
        completion = await stream.get_final_completion()
    [choice] = completion.choices
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    content = choice.message.content or ""
    said, answer = (
        (choice.message.reasoning_content, content)  # type: ignore[attr-defined]
        if shown_in == "reasoning"
        else content.rsplit("\n\n", 1)
    )
    assert said.startswith(f"Waking {held.name}: ")
    assert len(answer.split()) == _WORDS


# --- the other addresses


async def test_the_openai_sdk_reads_a_completion_with_messages(held: Held, openai_client: openai.AsyncOpenAI) -> None:
    stream = await openai_client.completions.create(
        model=held.name, prompt="hi there", max_tokens=_WORDS, stream=True, extra_headers={_LOADING: "content"}
    )
    text = ""
    async for chunk in stream:
        if not text:
            await held.release()
        text += "".join(choice.text or "" for choice in chunk.choices)
    said, answer = text.rsplit("\n\n", 1)
    assert said.startswith(f"Waking {held.name}: ")
    assert len(answer.split()) == _WORDS


@pytest.mark.parametrize("shown_in", ["reasoning", "content"])
async def test_the_anthropic_sdk_reads_a_message_after_pings(
    hearth: Observer, held: Held, anthropic_client: anthropic.AsyncAnthropic, shown_in: str
) -> None:
    headers = {_LOADING: shown_in}
    raw = await hearth.http.send(MESSAGES.request(hearth.http, held.name, headers=headers, stream=True), stream=True)
    assert await first_line(raw, "event:") == "event: ping"
    asked = asyncio.create_task(final_message(anthropic_client, held.name, headers))
    await hearth.until_waiting(2)
    await held.release()
    events = [line.removeprefix("event: ") async for line in lines(raw) if line.startswith("event:")]
    start = events.index("message_start")
    assert set(events[:start]) <= {"ping"}
    assert len((await asked).split()) == _WORDS
    await raw.aclose()


async def final_message(client: anthropic.AsyncAnthropic, model: str, headers: dict[str, str]) -> str:
    async with client.messages.stream(
        model=model,
        messages=HI,  # type: ignore[arg-type]
        max_tokens=_WORDS,
        extra_headers=headers,
    ) as stream:
        message = await stream.get_final_message()
    assert [block.type for block in message.content] == ["text"]
    assert (message.role, message.stop_reason) == ("assistant", "max_tokens")
    return message.content[0].text  # type: ignore[union-attr]


@pytest.mark.parametrize("shown_in", ["reasoning", "content"])
async def test_a_response_has_comments_only(
    hearth: Observer, held: Held, openai_client: openai.AsyncOpenAI, shown_in: str
) -> None:
    headers = {_LOADING: shown_in}
    raw = await hearth.http.send(RESPONSES.request(hearth.http, held.name, headers=headers, stream=True), stream=True)
    assert (await first_line(raw, "")).startswith(f": hearth: {held.name} is ")
    asked = asyncio.create_task(final_response(openai_client, held.name, headers))
    await hearth.until_waiting(2)
    await held.release()
    first = (await deltas(raw))[0]
    assert first["type"] == "response.created"
    assert len((await asked).split()) == _WORDS
    await raw.aclose()


async def final_response(client: openai.AsyncOpenAI, model: str, headers: dict[str, str]) -> str:
    async with client.responses.stream(model=model, input="hi there", extra_headers=headers) as stream:
        return (await stream.get_final_response()).output_text


# --- who gets none


@pytest.mark.parametrize("address", [CHAT, COMPLETIONS], ids=str)
@pytest.mark.parametrize("headers", [{}, {_LOADING: "off"}], ids=["no header", "off"])
async def test_who_does_not_ask_for_messages_gets_comments(
    hearth: Observer, held: Held, address: Address, headers: dict[str, str]
) -> None:
    request = address.request(hearth.http, held.name, headers=headers, stream=True)
    answer = await hearth.http.send(request, stream=True)
    assert answer.headers["x-hearth-position"] == "1"
    assert await first_line(answer, ": hearth: ")
    await held.release()
    assert "Waking" not in json.dumps(await deltas(answer))
    await answer.aclose()


async def test_an_answer_in_one_piece_says_how_long_it_took_and_nothing_else(hearth: Observer, held: Held) -> None:
    asked = asyncio.create_task(hearth.chat(held.name, headers={_LOADING: "content"}))
    await hearth.until_waiting(1)
    await held.release()
    answer = await asked
    assert len(answer.json()["choices"][0]["message"]["content"].split()) == _WORDS
    assert answer.headers["x-hearth-model"] == held.name
    assert float(answer.headers["x-hearth-waited-seconds"]) >= 0
    assert "x-hearth-waited-seconds" not in (await hearth.chat(held.name)).headers


async def test_a_choice_that_there_is_not_is_refused(hearth: Observer, held: Held) -> None:
    answer = await hearth.chat(held.name, headers={_LOADING: "loud"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == _LOADING
    assert (await hearth.phases())[held.name] == "asleep"


# --- how it can end otherwise


async def test_the_openai_sdk_raises_an_error_that_comes_after_messages(
    hearth: Observer, held: Held, openai_client: openai.AsyncOpenAI
) -> None:
    stream = await openai_client.chat.completions.create(
        model=held.name,
        messages=HI,  # type: ignore[arg-type]
        stream=True,
        extra_headers={_LOADING: "reasoning"},
    )
    first = await anext(aiter(stream))
    assert first.choices[0].delta.reasoning_content.startswith(f"Waking {held.name}: ")  # type: ignore[attr-defined]
    await held.kill()
    with pytest.raises(openai.APIError) as caught:
        _ = [chunk async for chunk in stream]
    assert caught.value.type == "model_failed"


async def test_a_limit_that_passes_tells_how_long_it_was(hearth: Observer, held: Held) -> None:
    answer = await hearth.chat(held.name, headers={"X-Hearth-Max-Wait": "0.5"})
    assert answer.status_code == 429
    assert answer.headers["x-hearth-position"] == "1"
    assert float(answer.headers["x-hearth-waited-seconds"]) > 0


@pytest.mark.parametrize("address", STREAMING, ids=str)
async def test_a_client_that_leaves_after_a_message_leaves_the_line(
    hearth: Observer, held: Held, address: Address
) -> None:
    request = address.request(hearth.http, held.name, headers={_LOADING: "content"}, stream=True)
    answer = await hearth.http.send(request, stream=True)
    assert await first_line(answer, "")
    await hearth.until_waiting(1)
    await answer.aclose()
    await hearth.until_waiting(0)
    await held.release()
    await hearth.until_phase(held.name, "ready")
    assert await hearth.engines[held.name].requests() == []
