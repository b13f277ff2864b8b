"""Every address wakes a sleeping model and gives the right answer, through the client that people use for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import anthropic
import openai
import pytest
from addresses import ALL, IN_PATH, RERANK, STREAMING, Address, speech
from observer import HI, Observer, deltas
from stack import LIMIT, MASTER_KEY

pytestmark = pytest.mark.e2e

#: What the engine says: it depends on the prompt only.
_WORDS = 12


class Clients:
    """The SDKs, pointed at the gateway. They never try again by themselves."""

    def __init__(self, url: str) -> None:
        self.openai = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=MASTER_KEY, max_retries=0, timeout=LIMIT)
        self.anthropic = anthropic.AsyncAnthropic(base_url=url, api_key=MASTER_KEY, max_retries=0, timeout=LIMIT)


@pytest.fixture
async def clients(hearth: Observer) -> AsyncIterator[Clients]:
    clients = Clients(hearth.stack.url)
    yield clients
    await clients.openai.close()
    await clients.anthropic.close()


async def chat(clients: Clients, model: str) -> str:
    answer = await clients.openai.chat.completions.create(model=model, messages=HI)  # type: ignore[arg-type]
    assert answer.usage
    assert answer.usage.completion_tokens == _WORDS
    return answer.choices[0].message.content or ""


async def chat_streamed(clients: Clients, model: str) -> str:
    stream = await clients.openai.chat.completions.create(model=model, messages=HI, stream=True)  # type: ignore[arg-type]
    assert isinstance(stream, openai.AsyncStream)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


async def completion(clients: Clients, model: str) -> str:
    answer = await clients.openai.completions.create(model=model, prompt="hi there", max_tokens=_WORDS)
    return answer.choices[0].text


async def completion_streamed(clients: Clients, model: str) -> str:
    stream = await clients.openai.completions.create(model=model, prompt="hi there", max_tokens=_WORDS, stream=True)
    return "".join([chunk.choices[0].text or "" async for chunk in stream if chunk.choices])


async def response(clients: Clients, model: str) -> str:
    answer = await clients.openai.responses.create(model=model, input="hi there")
    assert answer.status == "completed"
    return answer.output_text


async def response_streamed(clients: Clients, model: str) -> str:
    stream = await clients.openai.responses.create(model=model, input="hi there", stream=True)
    return "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])


async def message(clients: Clients, model: str) -> str:
    answer = await clients.anthropic.messages.create(model=model, messages=HI, max_tokens=_WORDS)  # type: ignore[arg-type]
    return "".join(block.text for block in answer.content if block.type == "text")


async def message_streamed(clients: Clients, model: str) -> str:
    async with clients.anthropic.messages.stream(model=model, messages=HI, max_tokens=_WORDS) as stream:  # type: ignore[arg-type]
        return await stream.get_final_text()


GENERATING = [
    chat, chat_streamed, completion, completion_streamed, response, response_streamed, message, message_streamed,
]  # fmt: skip


@pytest.mark.parametrize("ask", GENERATING, ids=lambda ask: ask.__name__)
async def test_an_sdk_wakes_a_sleeping_model(
    hearth: Observer, clients: Clients, ask: Callable[[Clients, str], Awaitable[str]]
) -> None:
    await hearth.sleep("small")
    starts = len(hearth.stack.starts("small"))
    text = await ask(clients, "small")
    assert len(text.split()) == _WORDS
    assert len(hearth.stack.starts("small")) == starts + 1
    assert await ask(clients, "small") == text, "the engine gives the same answer to the same prompt"
    assert [request["outcome"] for request in await hearth.engines["small"].requests()] == ["completed"] * 2


async def test_embeddings_wake_a_sleeping_model(hearth: Observer, clients: Clients) -> None:
    await hearth.sleep("small")
    answer = await clients.openai.embeddings.create(model="small", input=["one", "two", "one"])
    first, second, third = (row.embedding for row in answer.data)
    assert len(first) == 64
    assert first == third != second


async def test_transcriptions_wake_a_sleeping_model(hearth: Observer, clients: Clients) -> None:
    await hearth.sleep("small")
    answer = await clients.openai.audio.transcriptions.create(model="small", file=("speech.wav", speech()))
    assert answer.text.strip()
    assert [request["path"] for request in await hearth.engines["small"].requests()] == ["/v1/audio/transcriptions"]


async def test_rerank_wakes_a_sleeping_model(hearth: Observer) -> None:
    await hearth.sleep("small")
    answer = await hearth.http.send(RERANK.request(hearth.http, "small"))
    assert answer.status_code == 200
    assert sorted(result["index"] for result in answer.json()["results"]) == [0, 1]


@pytest.mark.parametrize("model", ["small", "wild/a"])
async def test_the_model_in_the_path_wakes_it(hearth: Observer, model: str) -> None:
    name = "wild/*" if model.startswith("wild/") else model
    await hearth.sleep(name)
    answer = await hearth.http.send(IN_PATH.request(hearth.http, model))
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["choices"][0]["message"]["content"].split()) == _WORDS
    assert answer.headers["x-hearth-model"] == name
    request = IN_PATH.request(hearth.http, model, stream=True)
    stream = await hearth.http.send(request, stream=True)
    assert len(await deltas(stream)) >= _WORDS
    await stream.aclose()


@pytest.mark.parametrize(("asked", "model"), [("tiny", "small"), ("wild/a", "wild/*"), ("wild/b", "wild/*")])
async def test_aliases_and_wildcards_wake_the_model_behind_them(hearth: Observer, asked: str, model: str) -> None:
    await hearth.sleep(model)
    answer = await hearth.chat(asked)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-hearth-model"] == model
    assert await hearth.phases() | {model: "ready"} == await hearth.phases()


@pytest.mark.parametrize("address", ALL, ids=str)
async def test_a_request_takes_one_lease(hearth: Observer, address: Address) -> None:
    """However often LiteLLM calls the hook, and although a second copy of the plugin is loaded beside the YAML."""
    await hearth.wake("small")
    await hearth.engines["small"].faults("hang-before-first-token")
    before = len(await hearth.engines["small"].requests())
    more = {"stream": True} if address in STREAMING else {}
    headers = {"X-Litellm-Call-Id": "chosen-by-the-client"}
    async with hearth.asking(address.request(hearth.http, "small", headers=headers, **more)):
        await hearth.until_running("small", 1)
        assert [request["state"] for request in await hearth.requests()] == ["running"]
        assert (await hearth.model("small"))["in_flight"] == 1
    await hearth.until_no_requests()
    assert len(await hearth.engines["small"].requests()) == before + 1


async def test_two_requests_with_the_same_call_id_take_two_leases(hearth: Observer) -> None:
    await hearth.wake("small")
    await hearth.engines["small"].faults("hang-before-first-token")
    headers = {"X-Litellm-Call-Id": "the-same"}
    requests = [ALL[0].request(hearth.http, "small", headers=headers, stream=True) for _ in range(2)]
    async with hearth.asking(requests[0]), hearth.asking(requests[1]):
        await hearth.until_running("small", 2)
        assert (await hearth.model("small"))["in_flight"] == 2
