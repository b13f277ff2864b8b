"""The scheduler's policy with everything real around it: agents that pause, models that do not fit together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from observer import HI, Observer, until
from stack import Model, Stack

pytestmark = pytest.mark.e2e

#: Half the load that the benchmark has and a fifth of its request and pause, so that a gateway which a busy machine has
#: made slow does not make a pause look long beside a swap. patience scales with the load.
_LOAD, _REQUEST = 2.5, 0.2
_STEPS = 12
_SETTINGS = {
    "scheduling": {"patience": "1250s", "minimum_service": "12s", "planned_residency": "24s"},
    "caller_line_limit": 3,
    "keepalive_interval": "200ms",
}
_MODELS = [
    Model("one", memory="60GiB", load_seconds=_LOAD, tokens_per_second=12 / _REQUEST, alone=True),
    Model("two", memory="60GiB", load_seconds=_LOAD, tokens_per_second=12 / _REQUEST, alone=True),
    Model("narrow", gpu="1", load_seconds=0.1, tokens_per_second=100, lifecycle={"parallel": 1, "line_limit": 2}),
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(
        tmp_path_factory.mktemp("stack"),
        _MODELS,
        gpus={"0": {"memory": "100GiB"}, "1": {"memory": "100GiB"}},
        settings=_SETTINGS,
        user_key=True,
    ) as stack:
        yield stack


async def _chat(hearth: Observer, model: str, **more: Any) -> httpx.Response:
    return await hearth.http.post("/v1/chat/completions", json={"model": model, "messages": HI, **more})


async def _agent(hearth: Observer, model: str, steps: int) -> None:
    for _ in range(steps):
        assert (await _chat(hearth, model)).status_code == 200
        await asyncio.sleep(_REQUEST)  # it runs a tool


async def test_two_agents_do_not_swap_with_each_step(hearth: Observer) -> None:
    """Whoever swaps when an agent pauses loads twice for each step."""
    before = [len(hearth.stack.starts(model)) for model in ("one", "two")]
    async with asyncio.timeout(60):
        await asyncio.gather(_agent(hearth, "one", _STEPS), _agent(hearth, "two", _STEPS))
    loads = [len(hearth.stack.starts(model)) - was for model, was in zip(("one", "two"), before, strict=True)]
    assert sum(loads) <= 6
    assert "overlap" not in hearth.stack.starts("one") + hearth.stack.starts("two")


async def test_a_waiting_caller_is_told_when_and_at_most_when(hearth: Observer) -> None:
    """In the list of requests, in headers, and in the comments of its stream; and it is kept."""
    await _chat(hearth, "two")
    await _chat(hearth, "one")  # now both loads are known, and `one` is awake
    busy = asyncio.create_task(_agent(hearth, "one", 8))
    body = {"model": "two", "messages": HI, "stream": True, "max_tokens": 2}
    told: list[str] = []
    began = asyncio.get_running_loop().time()
    async with hearth.http.stream("POST", "/v1/chat/completions", json=body) as stream:
        listed: dict[str, Any] = {}

        async def is_listed() -> bool:
            found = [each for each in await hearth.requests() if each["model"] == "two" and each["state"] == "waiting"]
            listed.update(found[0] if found else {})
            return bool(found) or stream.status_code == 200

        await until(is_listed, "it waits")
        async for line in stream.aiter_lines():
            told.append(line)
            if line.startswith("data:"):
                break
    waited = asyncio.get_running_loop().time() - began
    await busy
    comments = [line for line in told if "two is" in line and "at most" in line]
    assert comments, told
    assert "about" in comments[0]
    at_most = float(stream.headers["X-Hearth-At-Most-Seconds"])
    assert float(stream.headers["X-Hearth-Expected-Seconds"]) <= at_most
    assert waited <= at_most + 0.3  # the headers were written with the first comment
    if listed:
        assert listed["expected_seconds"] <= listed["at_most_seconds"]


async def test_one_at_a_time_and_the_rest_in_line(hearth: Observer) -> None:
    await _chat(hearth, "narrow", max_tokens=1)
    engine = hearth.engines["narrow"]
    asked = [asyncio.create_task(_chat(hearth, "narrow", max_tokens=300))]  # it outlasts all that is looked at
    await hearth.until_running("narrow", 1)
    asked += [asyncio.create_task(_chat(hearth, "narrow", max_tokens=1)) for _ in range(2)]
    await hearth.until_waiting(2)
    assert await engine.running() <= 1
    assert (await hearth.model("narrow"))["in_flight"] == 1
    full = await _chat(hearth, "narrow")
    assert full.status_code == 429
    assert full.json()["error"]["type"] == "line_full"
    assert int(full.headers["Retry-After"]) >= 1
    answers = await asyncio.gather(*asked)
    assert [answer.status_code for answer in answers] == [200] * 3


async def test_the_places_of_one_key_are_limited(hearth: Observer) -> None:
    await _chat(hearth, "one")
    await hearth.http.post("/lifecycle/models/one/pin")
    busy = asyncio.create_task(_chat(hearth, "one", max_tokens=200))
    asked = [asyncio.create_task(_chat(hearth, "two", max_tokens=1)) for _ in range(3)]
    await hearth.until_waiting(3)
    refused = await _chat(hearth, "two")
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "line_full")
    await hearth.http.post("/lifecycle/models/one/unpin")
    answers = await asyncio.gather(busy, *asked)
    assert [answer.status_code for answer in answers] == [200] * 4
