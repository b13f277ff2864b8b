"""The simulator's API, in process."""

import asyncio
import base64
import json
import struct
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from router.engine_simulator.app import create_app
from router.engine_simulator.engine import Engine
from router.engine_simulator.options import Options, parse

FAST = {"tokens_per_second": 5000.0, "prefill_tokens_per_second": 1e6}
HI = [{"role": "user", "content": "hi there"}]
TOOL = {"name": "look_up", "parameters": {
    "type": "object", "properties": {"word": {"type": "string"}, "times": {"type": "integer"}},
    "required": ["word", "times"]}}  # fmt: skip


def client_of(**options: Any) -> tuple[httpx.AsyncClient, Engine]:
    engine = Engine(Options(served_model_names=("tiny", "alias"), **{**FAST, **options}))
    engine.ready_at = time.time()
    transport = httpx.ASGITransport(create_app(engine))
    return httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=10), engine


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    found, _ = client_of()
    async with found:
        yield found


async def post(client: httpx.AsyncClient, path: str, **fields: Any) -> dict[str, Any]:
    answer = await client.post(path, json={"model": "tiny", **fields})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert isinstance(found, dict)
    return found


async def events(client: httpx.AsyncClient, path: str, **fields: Any) -> list[Any]:
    """The data of all events, JSON where it is JSON."""
    answer = await client.post(path, json={"model": "tiny", "stream": True, **fields})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    data = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


async def test_health_models_and_version(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).status_code == 200
    models = (await client.get("/v1/models")).json()["data"]
    assert [(model["id"], model["max_model_len"]) for model in models] == [("tiny", 4096), ("alias", 4096)]
    assert (await client.get("/version")).json() == {"version": "0.32.0"}
    assert (await client.get("/nothing")).json() == {"detail": "Not Found"}
    assert (await client.get("/v1/completions")).status_code == 405


async def test_a_chat_streamed_says_the_same_as_one_that_is_not(client: httpx.AsyncClient) -> None:
    whole = await post(client, "/v1/chat/completions", messages=HI, max_tokens=7)
    chunks = await events(client, "/v1/chat/completions", messages=HI, max_tokens=7,
                          stream_options={"include_usage": True})  # fmt: skip
    assert chunks[-1] == "[DONE]"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-2])
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-3]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"] == "length"
    assert chunks[-2]["choices"] == []
    assert chunks[-2]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"] == 7


async def test_an_answer_without_a_limit_ends_by_itself(client: httpx.AsyncClient) -> None:
    whole = await post(client, "/v1/chat/completions", messages=HI)
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert whole["usage"]["completion_tokens"] == Options().answer_tokens


async def test_the_newer_limit_wins(client: httpx.AsyncClient) -> None:
    whole = await post(client, "/v1/chat/completions", messages=HI, max_tokens=9, max_completion_tokens=2)
    assert whole["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "function": {"name": "look_up"}}])
async def test_a_chat_with_tools_calls_one(client: httpx.AsyncClient, choice: object) -> None:
    asked = {"messages": HI, "tools": [{"type": "function", "function": TOOL}], "tool_choice": choice}
    whole = await post(client, "/v1/chat/completions", **asked)
    [call] = whole["choices"][0]["message"]["tool_calls"]
    chunks = await events(client, "/v1/chat/completions", **asked)
    deltas = [d for chunk in chunks[:-1] for c in chunk["choices"] for d in c["delta"].get("tool_calls", [])]
    assert deltas[0]["function"] == {"name": call["function"]["name"]} == {"name": "look_up"}
    arguments = "".join(delta["function"].get("arguments", "") for delta in deltas)
    assert json.loads(arguments) == json.loads(call["function"]["arguments"]) == {"word": "value", "times": 1}
    expected = "stop" if isinstance(choice, dict) else "tool_calls"
    assert chunks[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"] == expected


async def test_after_the_tools_answer_comes_text(client: httpx.AsyncClient) -> None:
    tools = [{"type": "function", "function": TOOL}]
    for messages, choice in (([*HI, {"role": "tool", "content": "42", "tool_call_id": "x"}], "auto"), (HI, "none")):
        whole = await post(client, "/v1/chat/completions", messages=messages, tools=tools, tool_choice=choice)
        assert whole["choices"][0]["message"]["content"]
        assert "tool_calls" not in whole["choices"][0]["message"]


async def test_completions_answer_every_prompt(client: httpx.AsyncClient) -> None:
    whole = await post(client, "/v1/completions", prompt=["one", "two"], max_tokens=3, echo=True)
    assert [choice["text"].startswith(start) for choice, start in zip(whole["choices"], ("one", "two"), strict=True)]
    assert whole["usage"]["completion_tokens"] == 6
    chunks = await events(client, "/v1/completions", prompt=[1, 2, 3], max_tokens=3)
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None, None, None, "length"]


async def test_responses(client: httpx.AsyncClient) -> None:
    whole = await post(client, "/v1/responses", input="hi", max_output_tokens=3)
    found = await events(client, "/v1/responses", input="hi", max_output_tokens=3)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert found[0]["type"] == "response.created"
    text = "".join(event["delta"] for event in found if event["type"] == "response.output_text.delta")
    assert text == whole["output"][0]["content"][0]["text"]
    assert found[-1]["type"] == "response.completed"
    assert found[-1]["response"]["status"] == whole["status"] == "incomplete"
    called = await post(client, "/v1/responses", input="hi", tools=[{"type": "function", **TOOL}])
    assert json.loads(called["output"][0]["arguments"]) == {"word": "value", "times": 1}
    found = await events(client, "/v1/responses", input="hi", tools=[{"type": "function", **TOOL}])
    kinds = [event["type"] for event in found]
    assert kinds[-3:] == ["response.function_call_arguments.done", "response.output_item.done", "response.completed"]


async def test_messages(client: httpx.AsyncClient) -> None:
    whole = await post(client, "/v1/messages", messages=HI, max_tokens=3)
    assert whole["stop_reason"] == "max_tokens"
    found = await events(client, "/v1/messages", messages=HI, max_tokens=3)
    text = "".join(event["delta"]["text"] for event in found if event["type"] == "content_block_delta")
    assert text == whole["content"][0]["text"]
    tools = [{"name": "look_up", "input_schema": TOOL["parameters"]}]
    called = await post(client, "/v1/messages", messages=HI, max_tokens=99, tools=tools)
    assert called["stop_reason"] == "tool_use"
    assert called["content"][0]["input"] == {"word": "value", "times": 1}


async def test_embeddings_are_the_same_in_both_encodings(client: httpx.AsyncClient) -> None:
    floats = await post(client, "/v1/embeddings", input=["hi", "you"])
    packed = await post(client, "/v1/embeddings", input=["hi", "you"], encoding_format="base64")
    for left, right in zip(floats["data"], packed["data"], strict=True):
        raw = base64.b64decode(right["embedding"])
        assert list(struct.unpack(f"<{len(raw) // 4}f", raw)) == pytest.approx(left["embedding"])
    assert floats["data"][0]["embedding"] != floats["data"][1]["embedding"]


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
async def test_rerank_puts_the_nearest_first(client: httpx.AsyncClient, path: str) -> None:
    found = await post(client, path, query="a warm lantern", documents=["tax return", "a warm lantern"], top_n=1)
    assert [result["index"] for result in found["results"]] == [1]


async def test_transcription(client: httpx.AsyncClient) -> None:
    files = {"file": ("a.wav", b"RIFF" * 20_000)}
    answer = await client.post("/v1/audio/transcriptions", files=files, data={"model": "tiny"})
    assert answer.status_code == 200
    assert answer.json()["text"]
    assert answer.json()["usage"] == {"type": "duration", "seconds": 3}
    assert (await client.post("/v1/audio/transcriptions", data={"model": "tiny"})).status_code == 400
    wrong = await client.post("/v1/audio/transcriptions", files=files, data={"model": "nope"})
    assert wrong.status_code == 404


async def test_tokenize_counts_what_a_chat_is_charged(client: httpx.AsyncClient) -> None:
    counted = await post(client, "/tokenize", messages=HI)
    whole = await post(client, "/v1/chat/completions", messages=HI, max_tokens=1)
    assert counted["count"] == len(counted["tokens"]) == whole["usage"]["prompt_tokens"]
    counted = await post(client, "/tokenize", prompt="hi there", return_token_strs=True)
    assert counted["token_strs"] == ["hi", " there"]


LONG = "word " * 9000
REFUSED: list[tuple[str, dict[str, Any], int, str | None]] = [
    ("/v1/chat/completions", {"model": "nope", "messages": HI}, 404, "model"),
    ("/v1/chat/completions", {"messages": "hi"}, 400, "body.messages"),
    ("/v1/chat/completions", {}, 400, "body.messages"),
    ("/v1/chat/completions", {"messages": [7]}, 400, "body.messages.0"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": 9}]}, 400, "body.messages.0.content"),
    ("/v1/chat/completions", {"messages": []}, 400, None),
    ("/v1/chat/completions", {"messages": HI, "max_tokens": "x"}, 400, "body.max_tokens"),
    ("/v1/chat/completions", {"messages": HI, "max_tokens": 0}, 400, "max_tokens"),
    ("/v1/chat/completions", {"messages": HI, "max_tokens": 10**30}, 400, "max_tokens"),
    ("/v1/chat/completions", {"messages": HI, "stream": "maybe"}, 400, "body.stream"),
    ("/v1/chat/completions", {"messages": HI, "stream": []}, 400, "body.stream"),
    ("/v1/chat/completions", {"messages": HI, "temperature": -1}, 400, "temperature"),
    ("/v1/chat/completions", {"messages": HI, "n": 0}, 400, None),
    ("/v1/chat/completions", {"messages": HI, "n": 10**9}, 400, "n"),
    ("/v1/chat/completions", {"messages": HI, "tools": "x"}, 400, "body.tools"),
    ("/v1/chat/completions", {"messages": HI, "tools": []}, 400, "tools"),
    ("/v1/chat/completions", {"messages": HI, "tool_choice": "auto"}, 400, "tool_choice"),
    ("/v1/chat/completions", {"messages": HI, "model": 7}, 400, "body.model"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": LONG}]}, 400, "input_tokens"),
    ("/v1/chat/completions", {"messages": HI, "stream_options": {"include_usage": True}}, 400, "stream_options"),
    ("/v1/completions", {}, 400, "prompt"),
    ("/v1/completions", {"prompt": {"a": 1}}, 400, "body.prompt"),
    ("/v1/completions", {"prompt": ""}, 400, "prompt"),
    ("/v1/responses", {}, 400, "body.input"),
    ("/v1/responses", {"input": 7}, 400, "body.input"),
    ("/v1/responses", {"input": []}, 400, None),
    ("/v1/responses", {"input": [7]}, 400, "body.input.0"),
    ("/v1/messages", {"messages": HI}, 400, "body.max_tokens"),
    ("/v1/messages", {"messages": HI, "max_tokens": 0}, 400, "body.max_tokens"),
    ("/v1/embeddings", {"input": 7}, 400, "body.input"),
    ("/v1/embeddings", {"input": []}, 400, None),
    ("/v1/embeddings", {"input": "hi", "encoding_format": "zip"}, 400, "body.encoding_format"),
    ("/v1/rerank", {"query": "hi"}, 400, "body.documents"),
    ("/v1/rerank", {"query": "hi", "documents": []}, 400, None),
]


@pytest.mark.parametrize(("path", "fields", "status", "param"), REFUSED, ids=lambda value: str(value)[:60])
async def test_wrong_requests_are_refused(
    client: httpx.AsyncClient, path: str, fields: dict[str, Any], status: int, param: str | None
) -> None:
    answer = await client.post(path, json={"model": "tiny", **fields})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["message"]
    assert (error["code"], error["param"]) == (status, param)


@pytest.mark.parametrize("raw", [b"{bad", b"[1]", b"", b"\xff\xfe", b"[" * 100_000])
async def test_what_is_not_a_json_object_is_refused(client: httpx.AsyncClient, raw: bytes) -> None:
    answer = await client.post("/v1/chat/completions", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code == 400


async def test_the_list_of_requests_never_holds_a_prompt(client: httpx.AsyncClient) -> None:
    await post(client, "/v1/chat/completions", messages=[{"role": "user", "content": "secret"}], max_tokens=3)
    await client.post("/v1/chat/completions", json={"model": "nope", "messages": HI})
    answer = await client.get("/_simulator/requests")
    assert "secret" not in answer.text
    first, second = answer.json()["requests"]
    assert (first["path"], first["outcome"], first["tokens"]) == ("/v1/chat/completions", "completed", 3)
    assert first["arrived"] <= first["finished"] <= second["arrived"]
    assert (second["outcome"], second["tokens"]) == ("error", 0)


async def test_faults_are_set_replaced_and_cleared_over_http(client: httpx.AsyncClient) -> None:
    ask = {"model": "tiny", "messages": HI, "max_tokens": 5}
    assert (await client.put("/_simulator/faults", json={"faults": ["http-500", "unhealthy"]})).status_code == 200
    assert (await client.get("/health")).status_code == 503
    answer = await client.post("/v1/chat/completions", json=ask)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, 500)
    wrong = await client.put("/_simulator/faults", json={"faults": ["nonsense"]})
    assert wrong.status_code == 400
    assert "http-500" in wrong.json()["error"]["message"]
    await client.put("/_simulator/faults", json={"faults": ["error-mid-stream=2"]})
    assert (await client.get("/health")).status_code == 200
    chunks = await events(client, "/v1/chat/completions", messages=HI, max_tokens=5)
    assert chunks[-1] == "[DONE]"
    assert chunks[-2]["error"]["code"] == 500
    assert sum(bool(chunk["choices"][0]["delta"].get("content")) for chunk in chunks[:-2]) == 2
    assert (await client.delete("/_simulator/faults")).json() == {"faults": []}
    assert (await client.post("/v1/chat/completions", json=ask)).status_code == 200


async def test_without_the_option_there_is_no_sleep(client: httpx.AsyncClient) -> None:
    assert (await client.post("/sleep")).status_code == 404
    assert (await client.get("/is_sleeping")).status_code == 404


def series(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {line.split("{")[0]: float(line.rsplit(" ", 1)[1]) for line in lines}


async def settled(engine: Engine, running: int, tokens: int = 1) -> None:
    """Wait until so many requests run and have made tokens."""
    await until(lambda: len(engine.running) == running and all(record.tokens >= tokens for record in engine.running))


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds, which nothing tells us."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_sleep_holds_requests_until_it_is_over() -> None:
    client, engine = client_of(sleep_endpoints=True)
    async with client, asyncio.TaskGroup() as group:
        assert (await client.post("/sleep")).json() == {"status": "sleeping", "level": 1}
        held = group.create_task(post(client, "/v1/chat/completions", messages=HI, max_tokens=2))
        await until(engine.records)
        found = series((await client.get("/metrics")).text)
        assert (found["vllm:num_requests_running"], found["vllm:num_requests_waiting"]) == (0, 0)
        assert (await client.get("/health")).status_code == 200
        woken = await client.post("/wake_up", params={"tags": "weights"})
        assert woken.json() == {"status": "sleeping", "tags": ["weights"]}
        assert (await client.get("/is_sleeping")).json() == {"is_sleeping": True}
        assert not held.done()
        assert (await client.post("/wake_up")).json() == {"status": "awake", "tags": None}
        assert (await held)["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("stream", [True, False])
async def test_sleep_aborts_what_runs(stream: bool) -> None:
    client, engine = client_of(sleep_endpoints=True, tokens_per_second=200.0)
    async with client, asyncio.TaskGroup() as group:
        asked = {"model": "tiny", "messages": HI, "max_tokens": 4000, "stream": stream}
        running = group.create_task(client.post("/v1/chat/completions", json=asked))
        await settled(engine, 1)
        await client.post("/sleep")
        answer = await running
        assert answer.status_code == 200
        assert '"finish_reason":"abort"' in answer.text
        [record] = engine.records()
        assert record.outcome == "aborted"


async def test_sleep_can_wait_or_freeze() -> None:
    client, engine = client_of(sleep_endpoints=True, tokens_per_second=400.0)
    async with client, asyncio.TaskGroup() as group:
        running = group.create_task(post(client, "/v1/chat/completions", messages=HI, max_tokens=40))
        await settled(engine, 1)
        await client.post("/sleep", params={"mode": "wait"})
        assert (await running)["usage"]["completion_tokens"] == 40
        await client.post("/wake_up")
        running = group.create_task(post(client, "/v1/chat/completions", messages=HI, max_tokens=40))
        await settled(engine, 1)
        await client.post("/sleep", params={"mode": "keep"})
        assert series((await client.get("/metrics")).text)["vllm:num_requests_running"] == 1
        frozen = engine.records()[-1]
        before = frozen.tokens
        await asyncio.sleep(0.05)
        assert frozen.tokens == before < 40
        await client.post("/wake_up")
        assert (await running)["usage"]["completion_tokens"] == 40


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    found = parse(["--served-model-name", "a", "b", "--memory", "20GiB", "--load-seconds", "0", "--fault", "http-500"])
    assert (found.model, found.memory, found.load_seconds, found.faults) == ("a", 20 * 2**30, 0.0, ("http-500",))
    for wrong in (["--fault", "x"], ["--memory", "lots"], ["--load-seconds", "-1"], ["--tokens-per-second", "0"]):
        with pytest.raises(SystemExit) as ended:
            parse(wrong)
        assert ended.value.code == 2
    assert "known: exit-while-loading" in capsys.readouterr().err
