"""What a caller gets while it waits: comments in a stream, a limit of its own, and headers that say where it stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import anthropic
import httpx
import openai
import pytest
from addresses import ALL, CHAT, MESSAGES, STREAMING, Address
from observer import HI, Observer, first_line, lines

pytestmark = pytest.mark.e2e

_MAX_WAIT = "X-Hearth-Max-Wait"


@pytest.fixture
async def slow(hearth: Observer) -> AsyncIterator[str]:
    """A sleeping model that takes much longer to load than comments are apart."""
    await hearth.sleep("faulty")
    hearth.stack.set_options("faulty", "--load-seconds 1.5")
    yield "faulty"
    hearth.stack.set_options("faulty")
    await hearth.sleep("faulty")


async def openai_chat(client: openai.AsyncOpenAI, model: str) -> str:
    stream = await client.chat.completions.create(model=model, messages=HI, stream=True)  # type: ignore[arg-type]
    assert isinstance(stream, openai.AsyncStream)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


async def openai_responses(client: openai.AsyncOpenAI, model: str) -> str:
    stream = await client.responses.create(model=model, input="hi there", stream=True)
    return "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])


# --- comments


@pytest.mark.parametrize("address", STREAMING, ids=str)
async def test_a_stream_has_comments_until_the_answer_begins(hearth: Observer, slow: str, address: Address) -> None:
    request = address.request(hearth.http, slow, stream=True)
    answer = await hearth.http.send(request, stream=True)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-hearth-model"] == slow
    seen = [line async for line in lines(answer)]
    comments = [line for line in seen if line.startswith(":")]
    assert len(comments) >= 2
    assert comments[0].startswith(f": hearth: {slow} is ")
    assert any("starting" in comment and "place 1 in line" in comment for comment in comments)
    first_data = next(index for index, line in enumerate(seen) if line.startswith(("data:", "event:")))
    assert not [line for line in seen[first_data:] if line.startswith(":")], "the answer itself is LiteLLM's"
    await answer.aclose()


async def test_comments_go_on_during_a_slow_first_token(hearth: Observer) -> None:
    await hearth.wake("small")
    await hearth.engines["small"].faults("slow-first-token=1.5")
    async with hearth.stream("small") as stream:
        seen = [line async for line in lines(stream) if line]
    comments = [line for line in seen if line.startswith(":")]
    assert len(comments) >= 2
    assert comments == seen[: len(comments)]
    assert "small is working on the answer" in comments[0]


async def test_the_openai_sdk_ignores_comments(hearth: Observer, slow: str, openai_client: openai.AsyncOpenAI) -> None:
    assert len((await openai_chat(openai_client, slow)).split()) == 12
    await hearth.sleep(slow)
    assert len((await openai_responses(openai_client, slow)).split()) == 12


async def test_the_anthropic_sdk_ignores_comments(
    hearth: Observer, slow: str, anthropic_client: anthropic.AsyncAnthropic
) -> None:
    async with anthropic_client.messages.stream(model=slow, messages=HI, max_tokens=12) as stream:  # type: ignore[arg-type]
        assert len((await stream.get_final_text()).split()) == 12


# --- errors after a comment


@pytest.fixture
async def doomed(hearth: Observer) -> AsyncIterator[str]:
    """A sleeping model that fails only after a comment has been sent."""
    await hearth.sleep("faulty")
    hearth.stack.set_options("faulty", "--fault exit-while-loading=3@1.2")
    yield "faulty"
    hearth.stack.set_options("faulty")
    await hearth.sleep("faulty")


async def test_the_openai_sdk_raises_an_error_that_comes_in_the_stream(
    doomed: str, openai_client: openai.AsyncOpenAI
) -> None:
    with pytest.raises(openai.APIError, match="exit code 3") as caught:
        await openai_chat(openai_client, doomed)
    assert caught.value.type == "model_failed"


async def test_the_responses_stream_has_its_own_form_of_error(doomed: str, openai_client: openai.AsyncOpenAI) -> None:
    stream = await openai_client.responses.create(model=doomed, input="hi there", stream=True)
    events = [event async for event in stream]
    assert [event.type for event in events] == ["error"]
    assert "exit code 3" in events[0].message  # type: ignore[union-attr]


async def test_the_anthropic_sdk_raises_an_error_that_comes_in_the_stream(
    doomed: str, anthropic_client: anthropic.AsyncAnthropic
) -> None:
    with pytest.raises(anthropic.APIStatusError, match="exit code 3") as caught:
        async with anthropic_client.messages.stream(model=doomed, messages=HI, max_tokens=12) as stream:  # type: ignore[arg-type]
            await stream.get_final_text()
    assert caught.value.body["error"]["type"] == "api_error"  # type: ignore[index]


# --- the caller's limit


@pytest.mark.parametrize(
    ("address", "stream"), [(address, False) for address in ALL] + [(address, True) for address in STREAMING]
)
async def test_zero_means_not_to_wait(hearth: Observer, slow: str, address: Address, stream: bool) -> None:
    more = {"stream": True} if stream else {}
    answer = await hearth.http.send(address.request(hearth.http, slow, headers={_MAX_WAIT: "0"}, **more))
    assert answer.status_code == 429, answer.text
    error = answer.json()["error"]
    # to Anthropic's clients LiteLLM speaks of errors in Anthropic's words
    assert error["type"] == ("rate_limit_error" if address is MESSAGES else "model_busy")
    assert slow in error["message"]
    assert answer.headers["x-hearth-model"] == slow
    assert answer.headers["x-hearth-phase"] == "asleep"
    assert answer.headers["x-hearth-position"] == "1"
    assert int(answer.headers["x-hearth-expected-seconds"]) >= 0
    assert int(answer.headers["retry-after"]) >= 1


async def test_zero_is_enough_for_a_model_that_is_awake(hearth: Observer) -> None:
    await hearth.wake("small")
    assert (await hearth.chat("small", headers={_MAX_WAIT: "0"})).status_code == 200


async def test_a_limit_that_passes_is_told_with_the_place_in_line(hearth: Observer) -> None:
    await hearth.wake("left")
    await hearth.engines["left"].faults("stall-mid-stream=3")
    async with hearth.stream("left") as stream:
        await first_line(stream, "data:")
        ahead = asyncio.create_task(hearth.chat("right"))
        await hearth.until_waiting(1)
        answer = await hearth.chat("right", headers={_MAX_WAIT: "0.5"})
        assert answer.status_code == 429
        assert answer.json()["error"]["type"] == "model_busy"
        assert answer.headers["x-hearth-phase"] == "asleep"
        assert answer.headers["x-hearth-position"] == "2"
        assert int(answer.headers["retry-after"]) >= 1
        await hearth.until_waiting(1)
    assert (await ahead).status_code == 200


async def test_a_limit_that_is_not_reached_changes_nothing(hearth: Observer, slow: str) -> None:
    answer = await hearth.chat(slow, headers={_MAX_WAIT: "20"})
    assert answer.status_code == 200


@pytest.mark.parametrize("limit", ["1e6", "999999999", "1e300"])
async def test_a_huge_limit_is_cut_to_the_configured_bound(hearth: Observer, slow: str, limit: str) -> None:
    assert (await hearth.chat(slow, headers={_MAX_WAIT: limit})).status_code == 200


@pytest.mark.parametrize("limit", ["soon", "", "-1", "-0.001", "nan", "inf", "-inf", "1e999", "1,5", "0x10", "\u00b2"])
async def test_a_limit_that_makes_no_sense_is_refused(hearth: Observer, limit: str) -> None:
    await hearth.sleep("small")
    request = CHAT.request(hearth.http, "small")
    request.headers = httpx.Headers([*request.headers.raw, (_MAX_WAIT.encode(), limit.encode("latin-1", "replace"))])
    answer = await hearth.http.send(request)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == _MAX_WAIT
    assert (await hearth.phases())["small"] == "asleep"


async def test_the_place_in_line_is_told_while_waiting(hearth: Observer) -> None:
    await hearth.wake("left")
    await hearth.engines["left"].faults("stall-mid-stream=3")
    async with hearth.stream("left") as stream:
        await first_line(stream, "data:")
        async with hearth.stream("right", max_tokens=2) as first, hearth.stream("right", max_tokens=2) as second:
            assert "place 1 in line" in await first_line(first, ":")
            assert "place 2 in line" in await first_line(second, ":")
            await hearth.act("left", "sleep", force=True)
            for waiting in (first, second):
                assert [line async for line in lines(waiting)][-2:] == ["data: [DONE]", ""]
