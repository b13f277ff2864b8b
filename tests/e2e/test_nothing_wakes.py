"""Looking at models wakes none of them, and neither does a request that is not let in."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from addresses import ALL, CHAT, IN_PATH, Address
from observer import Observer

pytestmark = pytest.mark.e2e

_EVERY = ["small", "wild/*", "faulty", "idle", "left", "right"]


@pytest.fixture
async def asleep(hearth: Observer) -> AsyncIterator[Observer]:
    """All models are asleep, before and after."""
    for name in await hearth.awake():
        await hearth.sleep(name)
    starts = {name: len(hearth.stack.starts(name)) for name in hearth.stack.models}
    async with hearth.event_log() as events:
        yield hearth
        phases = await hearth.phases()
    assert set(phases.values()) <= {"asleep", "failed"}
    assert starts == {name: len(hearth.stack.starts(name)) for name in hearth.stack.models}
    assert [event for event in events if event["event"] == "starting"] == []


async def test_the_model_list_has_sleeping_models(asleep: Observer) -> None:
    listed = (await asleep.http.get("/v1/models")).json()
    names = {model["id"] for model in listed["data"]}
    assert {"small", "faulty", "idle", "left", "right", "tiny"} <= names
    assert listed["object"] == "list"


@pytest.mark.parametrize(
    "path",
    [
        "/health",
        "/health/liveliness",
        "/health/readiness",
        "/v1/model/info",
        "/model_group/info",
        "/v1/models/small",
        "/lifecycle/models",
        "/lifecycle/catalogue",
        "/lifecycle/requests",
        "/lifecycle/events?follow=false",
        "/metrics",
        "/healthz",
    ],
)
async def test_looking_wakes_nothing(asleep: Observer, path: str) -> None:
    answer = await asleep.http.get(path)
    assert answer.status_code == 200, answer.text


async def test_counting_tokens_wakes_nothing(asleep: Observer) -> None:
    answer = await asleep.http.post("/v1/messages/count_tokens", json={"model": "small", **CHAT.body})
    assert answer.status_code == 200, answer.text
    assert answer.json()["input_tokens"] > 0


@pytest.mark.parametrize("address", ALL, ids=str)
async def test_a_wrong_key_wakes_nothing(asleep: Observer, address: Address) -> None:
    answer = await asleep.http.send(address.request(asleep.http, "small", headers={"Authorization": "Bearer sk-wrong"}))
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("address", ALL, ids=str)
async def test_no_key_wakes_nothing(asleep: Observer, address: Address) -> None:
    request = address.request(asleep.http, "small")
    del request.headers["Authorization"]
    answer = await asleep.http.send(request)
    assert answer.status_code == 401
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("address", ALL, ids=str)
async def test_an_unknown_model_wakes_nothing(asleep: Observer, address: Address) -> None:
    answer = await asleep.http.send(address.request(asleep.http, "nothing-of-that-name"))
    assert 400 <= answer.status_code < 500, answer.text
    assert "nothing-of-that-name" in answer.json()["error"]["message"]


@pytest.mark.parametrize("address", ALL, ids=str)
async def test_a_disabled_model_is_refused_with_its_reason(asleep: Observer, address: Address) -> None:
    answer = await asleep.http.send(address.request(asleep.http, "wild/retired"))
    assert answer.status_code == 404, answer.text
    assert answer.json()["error"]["type"] in ("model_disabled", "not_found_error")  # the second is Anthropic's word
    assert "it ate its cables" in answer.json()["error"]["message"]


async def test_a_disabled_model_is_listed_nowhere(asleep: Observer) -> None:
    for path in ("/v1/models", "/v1/model/info", "/lifecycle/models"):
        answer = await asleep.http.get(path)
        assert "patient" in answer.text
        assert "retired" not in answer.text
    answer = await asleep.http.post("/lifecycle/models/wild/retired/wake")
    assert answer.status_code == 404
    assert "it ate its cables" in answer.json()["detail"]


@pytest.mark.parametrize("address", ALL, ids=str)
async def test_a_model_that_never_fits_is_refused_and_keeps_no_other_from_being_served(
    asleep: Observer, address: Address
) -> None:
    for name in ("wild/huge", "giant"):
        answer = await asleep.http.send(address.request(asleep.http, name))
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        assert error["type"] in ("model_does_not_fit", "invalid_request_error")  # the second is Anthropic's word
        assert "'wild/huge' needs more memory than its GPU has" in error["message"]


async def test_a_model_that_never_fits_is_not_woken_by_hand(asleep: Observer) -> None:
    answer = await asleep.http.post("/lifecycle/models/wild/huge/wake")
    assert answer.status_code == 400
    assert "Lower its memory in the configuration" in answer.json()["detail"]


async def test_the_catalogue_has_disabled_models_too(asleep: Observer) -> None:
    cards = (await asleep.http.get("/lifecycle/catalogue")).json()["cards"]
    found = {card["name"]: card["catalogue"]["disabled"] for card in cards}
    assert found.keys() == asleep.stack.models.keys()
    assert {name: reason for name, reason in found.items() if reason} == {"wild/retired": "it ate its cables"}


@pytest.mark.parametrize("name", ["hosted_vllm/small", "small,left", "left,small"])
async def test_an_engine_is_not_reached_past_its_model(hearth: Observer, name: str) -> None:
    await hearth.wake("small")
    before = len(await hearth.engines["small"].requests())
    for address in ALL:
        if address is not IN_PATH:
            answer = await hearth.http.send(address.request(hearth.http, name))
            assert answer.status_code == 400, answer.text
    assert len(await hearth.engines["small"].requests()) == before


async def test_an_engine_is_not_reached_by_its_deployments_id(hearth: Observer) -> None:
    await hearth.wake("small")
    answer = await hearth.http.get("/v1/model/info")
    (deployment,) = [row["model_info"]["id"] for row in answer.json()["data"] if row["model_name"] == "small"]
    before = len(await hearth.engines["small"].requests())
    answer = await hearth.chat(deployment)
    assert answer.status_code == 400
    assert "did you mean 'small'" in answer.json()["error"]["message"]
    assert len(await hearth.engines["small"].requests()) == before


async def test_a_fallback_does_not_reach_an_engine_past_its_model(hearth: Observer) -> None:
    await hearth.wake("small")
    await hearth.wake("faulty")
    await hearth.engines["faulty"].faults("http-500")
    before = len(await hearth.engines["small"].requests())
    answer = await hearth.chat("faulty", fallbacks=["small"])
    assert answer.status_code >= 429
    assert len(await hearth.engines["small"].requests()) == before


@pytest.mark.parametrize("path", ["/lifecycle/models", "/lifecycle/requests", "/lifecycle/events", "/metrics"])
async def test_the_lifecycle_needs_a_key(asleep: Observer, path: str) -> None:
    answer = await asleep.http.get(path, headers={"Authorization": "Bearer sk-wrong"})
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize("action", ["wake", "sleep", "touch", "pin", "unpin"])
async def test_actions_need_a_key(asleep: Observer, action: str) -> None:
    path = f"/lifecycle/models/small/{action}"
    assert (await asleep.http.post(path, headers={"Authorization": ""})).status_code == 401


async def test_the_router_answers_its_gateway_only(asleep: Observer) -> None:
    path = "/lifecycle/models/small/wake"
    answer = await asleep.router.post(path, headers={"X-Hearth-Token": "guessed", "X-Hearth-Role": "admin"})
    assert answer.status_code == 403
    forged = {"X-Hearth-Token": asleep.router.headers["X-Hearth-Token"], "X-Hearth-Role": "admin"}
    answer = await asleep.http.post(path, headers={**forged, "Authorization": "Bearer sk-wrong"})
    assert answer.status_code == 401, "the gateway takes nobody's word for a role"


async def test_hearth_keeps_no_keys_beside_those_of_a_custom_auth(asleep: Observer) -> None:
    answer = await asleep.http.get("/lifecycle/keys")
    assert answer.status_code == 501
    assert "custom_auth" in answer.json()["detail"]
