"""Every client waits for a model that loads for six minutes: longer than the five after which Node's fetch gives up on
an answer that has not begun. Only `make test-slow` runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import openai
import pytest
from observer import Observer
from open_webui import open_webui, reason_without_open_webui, streamed
from programs import Home, reason_without_clients
from served import LIMITS, OPTIONS
from stack import Model, Stack

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.timeout(1500)]

LOAD = 360

_FETCH = """
const began = Date.now();
const headers = { Authorization: `Bearer ${process.env.OPENAI_API_KEY}`, "Content-Type": "application/json" };
const body = JSON.stringify({ model: "first", messages: [{ role: "user", content: "hi" }] });
try {
  const answer = await fetch(`${process.env.OPENAI_BASE_URL}/chat/completions`, { method: "POST", headers, body });
  console.log(answer.status);
} catch (error) {
  console.log(error.cause.code, Math.round((Date.now() - began) / 1000));
}
"""

_NOT_STREAMED = """
import OpenAI from "openai";
const began = Date.now();
const messages = [{ role: "user", content: "hi" }];
const answer = await new OpenAI().chat.completions.create({ model: "first", messages });
console.log(answer.choices[0].message.content.split(" ").length, Math.round((Date.now() - began) / 1000));
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    for reason in filter(None, (reason_without_clients(), reason_without_open_webui())):
        pytest.skip(reason)
    with Stack(
        tmp_path_factory.mktemp("stack"),
        [
            Model("first", load_seconds=LOAD, lifecycle={"start_timeout": "30m"}, info=LIMITS, options=OPTIONS),
            Model("second", info=LIMITS, options=OPTIONS),
            Model("tiny", info=LIMITS, options=OPTIONS, lifecycle={"role": "utility"}),
        ],
        gpus={"0": {"memory": "100GiB"}},
        settings={"idle_timeout": "1h"},
    ) as stack:
        yield stack


async def test_everybody_gets_an_answer(hearth: Observer, home: Home) -> None:
    environment = await home.sdk_environment()
    (await home.hearth("client", "opencode", "--write")).require_success()
    (await home.hearth("client", "cline", "--write")).require_success()
    lines = (await home.hearth("client", "open-webui")).require_success().out
    sdk = openai.AsyncOpenAI(base_url=f"{hearth.stack.url}/v1", api_key=home.secret, timeout=3600, max_retries=0)

    async def through_python() -> str:
        answer = await sdk.chat.completions.create(model="first", messages=[{"role": "user", "content": "hi"}])
        return answer.choices[0].message.content or ""

    async with sdk, open_webui(home.path / "open-webui", lines, home.secret) as web, asyncio.TaskGroup() as group:
        assert (await hearth.phases())["first"] == "asleep"
        examples = ("openai_sdk.py", "anthropic_sdk.py", "openai_sdk.mjs", "anthropic_sdk.mjs", "chat.sh")
        conversations = {
            name: group.create_task(home.example(name, "first", "second", environment=environment)) for name in examples
        }
        conversations["OpenCode"] = group.create_task(home.opencode("--auto", "hi there"))
        conversations["Cline"] = group.create_task(home.cline("--auto-approve", "true", "hi there"))
        page = group.create_task(streamed(web, "first"))
        whole = group.create_task(through_python())
        fetched = group.create_task(home.node("fetch", _FETCH, environment))
        not_streamed = group.create_task(home.node("sdk", _NOT_STREAMED, environment))

    for name, conversation in conversations.items():
        assert conversation.result().code == 0, (name, conversation.result())
    assert conversations["Cline"].result().result["finishReason"] == "completed"
    assert any(event["type"] == "text" for event in conversations["OpenCode"].result().events)
    assert "".join(delta.get("content") or "" for delta in page.result())
    assert len(whole.result().split()) >= 12
    assert len(hearth.stack.starts("first")) == 1
    code, seconds = fetched.result().out.split()
    print(f"Node's fetch, not streamed: {code} after {seconds} s; OpenAI's SDK: {not_streamed.result()}")
    assert code == "UND_ERR_HEADERS_TIMEOUT"
    words, waited = (int(word) for word in not_streamed.result().require_success().out.split())
    assert words >= 12, "the SDK asks again, and is answered"
    assert waited > int(seconds)


async def test_open_webui(hearth: Observer, home: Home) -> None:
    """The conversation of the other clients: stream, tool, second model."""
    await hearth.sleep("second")
    lines = (await home.hearth("client", "open-webui")).require_success().out
    async with open_webui(home.path / "open-webui", lines, home.secret) as web:
        listed = (await web.get("/api/models")).json()["data"]
        assert {"first", "second", "tiny"} <= {model["id"] for model in listed}
        assert "".join(delta.get("content") or "" for delta in await streamed(web, "second"))
        weather = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
        called = await streamed(web, "second", tools=[weather])
        assert "weather" in str([delta["tool_calls"] for delta in called if delta.get("tool_calls")])
        assert "".join(delta.get("content") or "" for delta in await streamed(web, "tiny"))
    assert (await hearth.phases())["second"] == "ready"
