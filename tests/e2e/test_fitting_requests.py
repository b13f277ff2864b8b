"""Request rules from end to end: what a client is told, and what arrives at the engine, to the byte."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from addresses import CHAT, COMPLETIONS, EMBEDDINGS, IN_PATH, MESSAGES, RESPONSES, Address
from observer import Observer
from stack import MASTER_KEY, Model, Stack

pytestmark = pytest.mark.e2e

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
STRICT = {
    "context_length": 2000, "max_output_tokens": 50, "tools": "strip", "images": "refuse", "flatten_text": True,
    "alternate_roles": True, "system_role": "user", "thinking": {},
    "parameters": {"drop": ["seed"], "refuse": ["logit_bias"]},
}  # fmt: skip
EFFORTS = {"minimal": "low", "xhigh": "high"}
LONG = "word " * 3000


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of models with rules, whose engines keep the bodies they get."""
    directory = tmp_path_factory.mktemp("rules")
    bodies = directory / "bodies"
    bodies.mkdir()
    fast = ("--keep-bodies", str(bodies), "--prefill-tokens-per-second", "1e12", "--max-model-len", "1000000000")
    with Stack(
        directory / "stack",
        [
            Model("strict", info={"request_rules": STRICT}, options=fast),
            Model("roomy", info={"max_input_tokens": 200_000}, options=fast),
            Model("plain", options=fast),
            Model("force", info={"request_rules": {"tools": "force", "reasoning_effort": EFFORTS}}, options=fast),
            Model("shape", info={"request_rules": {"flatten_text": True, "context_length": 10**9}}, options=fast),
        ],
        gpus={"0": {"memory": "100GiB"}},
        extra={"router_settings": {"model_group_alias": {"same": "strict"}}},
    ) as stack:
        yield stack


@pytest.fixture
async def asleep(hearth: Observer) -> AsyncIterator[Observer]:
    """Every model is asleep before, and nothing has been started after."""
    for name in await hearth.awake():
        await hearth.sleep(name)
    starts = {name: hearth.stack.starts(name) for name in hearth.stack.models}
    yield hearth
    assert await hearth.awake() == []
    assert starts == {name: hearth.stack.starts(name) for name in hearth.stack.models}


async def body_of(hearth: Observer, model: str) -> dict[str, Any]:
    """The body of the last request that the model's engine got."""
    return kept(hearth.stack, str((await hearth.engines[model].requests())[-1]["id"]))


def kept(stack: Stack, request: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((stack.directory.parent / "bodies" / f"{request}.json").read_bytes())
    return found


def refused(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 400, f"{answer.status_code}: {answer.text[:500]}"
    error: dict[str, Any] = answer.json()["error"]
    return error


# --- what cannot fit


@pytest.mark.parametrize("name", ["strict", "same"])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_cannot_fit_wakes_nothing(asleep: Observer, name: str, stream: bool) -> None:
    conversation = [{"role": "user", "content": LONG}]
    for address, given in (
        (CHAT, {"messages": conversation}),
        (IN_PATH, {"messages": conversation}),
        (COMPLETIONS, {"prompt": LONG}),
        (RESPONSES, {"input": LONG}),
        (MESSAGES, {"messages": conversation}),
    ):
        error = refused(await asleep.http.send(address.request(asleep.http, name, stream=stream, **given)))
        assert "2000" in error["message"]
        assert "'roomy', which takes 200000 tokens" in error["message"]
        assert error["type"] == "invalid_request_error"
        if address is not MESSAGES:
            assert (error["code"], error["param"]) == ("context_length_exceeded", next(iter(given)))


async def test_tools_count(asleep: Observer) -> None:
    tools = [{"type": "function", "function": {"name": "look", "description": LONG * 100}}]
    assert "context length" in refused(await asleep.chat("roomy", tools=tools))["message"]


async def test_openais_client_sees_its_own_error(asleep: Observer) -> None:
    async with openai.AsyncOpenAI(base_url=f"{asleep.stack.url}/v1", api_key=MASTER_KEY, max_retries=0) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="strict", messages=[{"role": "user", "content": LONG}])
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
        with pytest.raises(openai.BadRequestError, match="maximum context length is 2000 tokens"):
            await client.responses.create(model="strict", input=LONG)


async def test_anthropics_client_sees_its_own_error(asleep: Observer) -> None:
    async with anthropic.AsyncAnthropic(base_url=asleep.stack.url, api_key=MASTER_KEY, max_retries=0) as client:
        with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: .* > 2000 maximum") as caught:
            await client.messages.create(model="strict", max_tokens=9, messages=[{"role": "user", "content": LONG}])
    assert caught.value.type == "invalid_request_error"


# --- what is refused


async def test_images_for_a_model_of_text(asleep: Observer) -> None:
    error = refused(await asleep.chat("strict", messages=[{"role": "user", "content": [IMAGE]}]))
    assert (error["code"], error["param"]) == ("unsupported_value", "messages[0]")
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    request = MESSAGES.request(asleep.http, "strict", messages=[{"role": "user", "content": [picture]}])
    assert "takes text only" in refused(await asleep.http.send(request))["message"]


@pytest.mark.parametrize("given", [{"logit_bias": {}}, {"extra_body": {"logit_bias": {}}}])
async def test_a_parameter_that_is_refused(asleep: Observer, given: dict[str, Any]) -> None:
    error = refused(await asleep.chat("strict", **given))
    assert (error["code"], error["param"]) == ("unsupported_parameter", "logit_bias")


@pytest.mark.parametrize("name", ["plain", "nothing-of-that-name"])
async def test_without_rules_nonsense_is_refused(asleep: Observer, name: str) -> None:
    assert refused(await asleep.chat(name, max_tokens="many"))["param"] in ("max_tokens", "model", None)


# --- what arrives


async def test_a_chat_is_fitted_to_its_model(hearth: Observer) -> None:
    conversation = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "\u65e5\u672c"}, {"type": "text", "text": "\U0001f525"}]},
        {"role": "user", "content": "and?"},
    ]
    answer = await hearth.chat(
        "strict", messages=conversation, tools=TOOLS, tool_choice="auto", seed=1, max_tokens=9999, top_k=3,
        reasoning_effort="high",
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    assert await body_of(hearth, "strict") == {
        "model": "strict", "messages": [{"role": "user", "content": "be brief\n\n\u65e5\u672c\n\U0001f525\n\nand?"}],
        "max_tokens": 50, "top_k": 3, "chat_template_kwargs": {"enable_thinking": True}, "stream": False,
    }  # fmt: skip
    assert answer.headers["x-hearth-changed"] == (
        "seed removed; tools removed; text parts joined; system text moved to the user; messages merged; "
        "reasoning_effort removed; thinking=on; max_tokens=50"
    )


@pytest.mark.parametrize(
    ("address", "given", "sent"),
    [
        (CHAT, {"max_tokens": "7"}, {"max_tokens": 7, "chat_template_kwargs": {"enable_thinking": False}}),
        (CHAT, {"max_tokens": -1, "stream": True}, {"max_tokens": None, "stream": True}),
        (COMPLETIONS, {"max_tokens": 9999}, {"max_tokens": 50, "chat_template_kwargs": None}),
        (RESPONSES, {"max_output_tokens": 0}, {"max_output_tokens": None}),
        (
            RESPONSES,
            {"max_output_tokens": 9999, "reasoning": {"effort": "low"}, "instructions": "be brief"},
            {
                "max_output_tokens": 50,
                "chat_template_kwargs": {"enable_thinking": True},
                "reasoning": None,
                "instructions": None,
                "input": [{"role": "user", "content": "be brief\n\nSay something long."}],
            },
        ),
        (MESSAGES, {"max_tokens": 0}, {"max_tokens": 50, "chat_template_kwargs": {"enable_thinking": False}}),
        (
            MESSAGES,
            {"max_tokens": 9999, "system": "be brief", "thinking": {"type": "enabled", "budget_tokens": 1024}},
            {
                "max_tokens": 50,
                "chat_template_kwargs": {"enable_thinking": True},
                "messages": [{"role": "user", "content": "be brief\n\nSay something long."}],
            },
        ),
    ],
)
async def test_every_address_is_fitted(
    hearth: Observer, address: Address, given: dict[str, Any], sent: dict[str, Any]
) -> None:
    answer = await hearth.http.send(address.request(hearth.http, "strict", **given))
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-hearth-changed"]
    body = await body_of(hearth, "strict")
    assert {key: body.get(key) for key in sent} == sent


@pytest.mark.parametrize("place", ["reasoning_effort", "reasoning", "output_config"])
@pytest.mark.parametrize("address", [CHAT, RESPONSES, MESSAGES])
async def test_an_effort_arrives_wherever_it_was_put(hearth: Observer, address: Address, place: str) -> None:
    given = "xhigh" if place == "reasoning_effort" else {"effort": "xhigh"}
    answer = await hearth.http.send(address.request(hearth.http, "force", **{place: given}))
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-hearth-changed"] == "reasoning_effort=high"
    body = await body_of(hearth, "force")
    assert {key: body[key] for key in ("reasoning_effort", "reasoning", "output_config") if key in body} == (
        {"reasoning": {"effort": "high"}} if address is RESPONSES else {"reasoning_effort": "high"}
    )


async def test_tools_are_forced_until_there_is_a_result(hearth: Observer) -> None:
    assert (await hearth.chat("force", tools=TOOLS)).status_code == 200
    assert (await body_of(hearth, "force"))["tool_choice"] == "required"
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    conversation = [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "seen"},
    ]
    answer = await hearth.chat("force", tools=TOOLS, messages=conversation)
    assert answer.status_code == 200
    assert "x-hearth-changed" not in answer.headers
    assert "tool_choice" not in await body_of(hearth, "force")


async def test_a_model_without_rules_gets_what_was_sent(hearth: Observer) -> None:
    given = {"seed": 1, "max_tokens": 9, "tools": TOOLS, "messages": [{"role": "user", "content": [IMAGE]}] * 2}
    answer = await hearth.chat("plain", **given)
    assert answer.status_code == 200, answer.text
    assert "x-hearth-changed" not in answer.headers
    body = await body_of(hearth, "plain")
    assert {key: body[key] for key in given} == given


async def test_what_generates_nothing_gets_what_was_sent(hearth: Observer) -> None:
    answer = await hearth.http.send(EMBEDDINGS.request(hearth.http, "strict", input=LONG, seed=1))
    assert "x-hearth-changed" not in answer.headers
    assert (await body_of(hearth, "strict"))["input"] == [LONG]


# --- large bodies


@pytest.mark.timeout(300)
async def test_sixty_megabytes_arrive_intact(hearth: Observer) -> None:
    await hearth.wake("shape")
    text = "\u65e5\u672c\u8a9e\U0001f525e\u0301\u00df " * 2_900_000
    content = json.dumps({
        "model": "shape", "max_tokens": 3,
        "messages": [{"role": "user", "content": [{"type": "text", "text": text}, {"type": "text", "text": "?"}]}],
    }, ensure_ascii=False).encode()  # fmt: skip
    assert 55e6 < len(content) < 64 * 2**20
    answer = await hearth.http.post(
        "/v1/chat/completions", content=content, headers={"Content-Type": "application/json"}, timeout=240
    )
    assert answer.status_code == 200, answer.text[:500]
    assert answer.headers["x-hearth-changed"] == "text parts joined"
    (message,) = (await body_of(hearth, "shape"))["messages"]
    digests = [hashlib.sha256(each.encode()).hexdigest() for each in (message["content"], f"{text}\n?")]
    assert digests[0] == digests[1]


async def test_more_than_sixty_four_megabytes_are_too_much(asleep: Observer) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b'{"a": "'
        for _ in range(65):
            yield b"a" * 2**20

    answer = await asleep.http.post(
        "/v1/chat/completions", content=content(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413
    assert answer.json()["error"]["type"] == "request_too_large"
