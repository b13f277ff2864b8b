"""Models that an admin adds while the gateway runs, in LiteLLM's database: whose engine they wake, what is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from observer import HI, Observer, until


@pytest.fixture
async def left(hearth: Observer) -> AsyncIterator[Observer]:
    """`left` is asleep before and after."""
    if "left" in await hearth.awake():
        await hearth.sleep("left")
    yield hearth
    await hearth.sleep("left")


def shared(hearth: Observer, name: str, **info: Any) -> dict[str, Any]:
    """An entry at the address of the engine of `left`."""
    return {
        "model_name": name,
        "litellm_params": {
            "model": "hosted_vllm/left",
            "api_base": f"http://127.0.0.1:{hearth.stack.ports['left']}/v1/",
        },
        "model_info": info,
    }


async def ask(hearth: Observer, model: str) -> tuple[int, dict[str, Any]]:
    answer = await hearth.http.post("/v1/chat/completions", json={"model": model, "messages": HI})
    return answer.status_code, answer.json()


async def add(hearth: Observer, entry: dict[str, Any]) -> str:
    """Its id, once the gateway lists it."""
    added = await hearth.http.post("/model/new", json=entry)
    assert added.status_code == 200, added.text

    async def listed() -> bool:
        found = (await hearth.http.get("/v1/models")).json()["data"]
        return entry["model_name"] in [model["id"] for model in found]

    await until(listed, f"{entry['model_name']} is listed")
    return str(added.json()["model_id"])


async def test_one_at_an_engines_address_shares_its_lifecycle(left: Observer) -> None:
    await add(left, shared(left, "nickname"))
    starts = len(left.stack.starts("left"))
    status, answer = await ask(left, "nickname")
    assert (status, answer["choices"][0]["finish_reason"]) == (200, "stop"), answer
    assert (await left.phases())["left"] == "ready"
    assert len(left.stack.starts("left")) == starts + 1
    (ended,) = [line for line in await history(left) if line["model"] == "left"][-1:]
    assert ended["model"] == "left"


async def test_a_lifecycle_of_its_own_is_refused(left: Observer) -> None:
    entry = shared(left, "own", lifecycle={"command": ["sleep", "1"], "memory": "1GiB"})
    refused = await left.http.post("/model/new", json=entry)
    assert refused.status_code == 400
    assert "only the configuration file gives a model a lifecycle" in refused.json()["error"]["message"]


async def test_a_lifecycle_that_came_another_way_wakes_nothing(left: Observer) -> None:
    entry = shared(left, "late")
    entry["litellm_params"]["api_base"] = "http://127.0.0.1:9/v1"
    model_id = await add(left, entry)
    changed = await left.http.patch(
        f"/model/{model_id}/update", json={"model_info": {"lifecycle": {"command": ["sleep", "1"], "memory": "1GiB"}}}
    )
    assert changed.status_code == 200, changed.text
    said: list[Any] = []

    async def refused() -> bool:
        said[:] = await ask(left, "late")
        return said[0] == 404

    await until(refused, "the changed entry is known")
    assert said[1]["error"]["type"] == "model_without_engine"


async def history(hearth: Observer) -> list[dict[str, Any]]:
    answer = await hearth.http.get("/lifecycle/history")
    answer.raise_for_status()
    return [json.loads(line) for line in answer.text.splitlines()]
