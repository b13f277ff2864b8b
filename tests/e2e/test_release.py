"""However a request ends, its lease ends with it, and the engine stops working on what nobody will read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from addresses import ALL, CHAT, COMPLETIONS, IN_PATH, MESSAGES, RESPONSES, SPEECH, STREAMING, Address
from observer import Observer, first_line, lines, until
from stack import MASTER_KEY

pytestmark = pytest.mark.e2e

_EITHER_WAY = [(address, stream) for address in ALL for stream in (False, True) if address.streams or not stream]
either_way = pytest.mark.parametrize(
    ("address", "stream"),
    _EITHER_WAY,
    ids=[f"{address}{'-stream' if stream else ''}" for address, stream in _EITHER_WAY],
)


def request(hearth: Observer, address: Address, model: str, *, stream: bool) -> httpx.Request:
    more: dict[str, Any] = {"stream": True} if stream else {}
    return address.request(hearth.http, model, **more)


async def last_outcome(hearth: Observer, model: str) -> str:
    """How the engine's newest request ended, once it has ended."""
    engine = hearth.engines[model]

    async def ended() -> bool:
        return bool((await engine.requests())[-1]["outcome"] != "running")

    await until(ended, "the engine's last request has ended")
    return str((await engine.requests())[-1]["outcome"])


# --- the client leaves


async def test_clients_leave_while_they_wait(hearth: Observer) -> None:
    await hearth.sleep("faulty")
    hearth.stack.set_options("faulty", "--fault never-ready")
    asked = [
        asyncio.create_task(hearth.http.send(request(hearth, address, "faulty", stream=stream), stream=True))
        for address, stream in _EITHER_WAY
    ]
    await hearth.until_waiting(len(asked))
    for gone, task in enumerate(asked, start=1):
        task.cancel()
        answer = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(answer, httpx.Response):  # a comment has been sent already
            await answer.aclose()
        await hearth.until_waiting(len(asked) - gone)
    await hearth.until_no_requests()
    await hearth.sleep("faulty")


@either_way
async def test_a_client_leaves_before_the_first_token(hearth: Observer, address: Address, stream: bool) -> None:
    await hearth.wake("small")
    await hearth.engines["small"].faults("hang-before-first-token")
    async with hearth.asking(request(hearth, address, "small", stream=stream)):
        await hearth.until_running("small", 1)
    await hearth.until_no_requests()
    assert await last_outcome(hearth, "small") == "aborted"


@pytest.mark.parametrize("address", STREAMING, ids=str)
async def test_a_client_leaves_in_the_middle_of_the_stream(hearth: Observer, address: Address) -> None:
    await hearth.wake("small")
    await hearth.engines["small"].faults("stall-mid-stream=3")
    answer = await hearth.http.send(request(hearth, address, "small", stream=True), stream=True)
    await first_line(answer, "data:")
    await hearth.until_running("small", 1)
    await answer.aclose()
    await hearth.until_no_requests()
    assert await last_outcome(hearth, "small") == "aborted"


@pytest.mark.parametrize("address", [*STREAMING, SPEECH], ids=str)
async def test_a_client_leaves_in_the_middle_of_a_generation_that_is_not_streamed(
    hearth: Observer, address: Address
) -> None:
    await hearth.wake("small")
    await hearth.engines["small"].faults("stall-mid-stream=3")

    async def generating() -> bool:
        return any(row["outcome"] == "running" and row["tokens"] for row in await hearth.engines["small"].requests())

    async with hearth.asking(request(hearth, address, "small", stream=False)):
        await until(generating, "the engine has produced something")
    await hearth.until_no_requests()
    assert await last_outcome(hearth, "small") == "aborted"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("address", [CHAT, MESSAGES, IN_PATH, SPEECH], ids=str)
async def test_a_client_leaves_while_it_uploads(hearth: Observer, address: Address, chunked: bool) -> None:
    await hearth.sleep("small")
    whole = request(hearth, address, "small", stream=False)
    body = await whole.aread()
    head = [f"POST {address.url('small')} HTTP/1.1", "Host: gateway", f"Authorization: Bearer {MASTER_KEY}"]
    head += [f"Content-Type: {whole.headers['content-type']}"]
    head += ["Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}", "", ""]
    part = body[: len(body) // 2]
    _, writer = await asyncio.open_connection("127.0.0.1", hearth.stack.port)
    writer.write("\r\n".join(head).encode() + (f"{len(part):x}\r\n".encode() + part + b"\r\n" if chunked else part))
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    # whatever that request did, it did before this one, on the gateway's one loop
    assert (await hearth.http.get("/v1/models")).status_code == 200
    await hearth.until_no_requests()
    assert (await hearth.phases())["small"] == "asleep"


async def test_a_client_that_half_closes_still_gets_its_answer(hearth: Observer) -> None:
    await hearth.wake("small")
    whole = request(hearth, CHAT, "small", stream=False)
    body = await whole.aread()
    head = f"POST {CHAT.path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {MASTER_KEY}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", hearth.stack.port)
    writer.write(head.encode() + body)
    await writer.drain()
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()
    await hearth.until_no_requests()


async def test_a_client_that_reads_slowly_keeps_its_lease(hearth: Observer) -> None:
    await hearth.wake("left")
    async with hearth.stream("left", max_tokens=200) as stream:
        await first_line(stream, "data:")
        assert [row["state"] for row in await hearth.requests()] == ["running"]
        assert [line async for line in lines(stream) if line][-1] == "data: [DONE]"
    await hearth.until_no_requests()
    assert await last_outcome(hearth, "left") == "completed"


# --- the engine fails


@pytest.fixture
async def faulty(hearth: Observer) -> AsyncIterator[str]:
    await hearth.wake("faulty")
    yield "faulty"
    hearth.stack.set_options("faulty")


@either_way
async def test_the_engine_answers_500(hearth: Observer, faulty: str, address: Address, stream: bool) -> None:
    await hearth.engines[faulty].faults("http-500")
    answer = await hearth.http.send(request(hearth, address, faulty, stream=stream))
    assert answer.status_code >= 500 or "error" in answer.text
    await hearth.until_no_requests()
    assert await last_outcome(hearth, faulty) == "error"
    assert (await hearth.phases())[faulty] == "ready"


_GENERATING = [(address, stream) for address in (CHAT, COMPLETIONS, MESSAGES, RESPONSES) for stream in (False, True)]


@pytest.mark.parametrize("fault", ["error-mid-stream=3", "truncated-stream=3", "die-mid-stream=3"])
@pytest.mark.parametrize(
    ("address", "stream"),
    _GENERATING,
    ids=[f"{address}{'-stream' if stream else ''}" for address, stream in _GENERATING],
)
async def test_the_engine_fails_in_the_middle(
    hearth: Observer, faulty: str, address: Address, stream: bool, fault: str
) -> None:
    await hearth.engines[faulty].faults(fault)
    answer = await hearth.http.send(request(hearth, address, faulty, stream=stream), stream=True)
    text = ""
    try:
        async for chunk in answer.aiter_text():
            text += chunk
        cut = False
    except httpx.RemoteProtocolError:
        cut = True
    finally:
        await answer.aclose()
    assert cut or answer.status_code >= 500 or told_of_error(text), f"{answer.status_code}: {text}"
    await hearth.until_no_requests()


def told_of_error(text: str) -> bool:
    """Whether an event of the stream is an error."""
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    return any(event.get("error") or event.get("type") in ("error", "response.failed") for event in events)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_engine_is_killed_in_the_middle(hearth: Observer, faulty: str, stream: bool) -> None:
    await hearth.engines[faulty].faults("stall-mid-stream=3")
    asked = request(hearth, CHAT, faulty, stream=stream)
    async with hearth.asking(asked) as answering:
        await hearth.until_running(faulty, 1)
        process = hearth.stack.engine_process(faulty)
        assert process is not None
        process.kill()
        try:
            answer = await answering
        except httpx.RemoteProtocolError:
            pass
        else:
            assert answer.status_code >= 500 or told_of_error(answer.text)
    await hearth.until_no_requests()
    await hearth.until_phase(faulty, "failed")


@pytest.mark.parametrize("stream", [False, True])
async def test_the_engine_hangs_and_the_clients_patience_ends(hearth: Observer, faulty: str, stream: bool) -> None:
    await hearth.engines[faulty].faults("hang-before-first-token")
    asked = request(hearth, CHAT, faulty, stream=stream)
    # comments keep a stream's client from timing out by itself, so a limit on the whole is what ends it
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.7):
            await hearth.http.send(asked)
    await hearth.until_no_requests()
    assert await last_outcome(hearth, faulty) == "aborted"
