"""LiteLLM's own keys on a real Postgres, asked with OpenAI's SDK: each limit, and what of Hearth comes with a key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import psycopg
import pytest
from observer import HI, Observer, bearer, first_line, until
from postgres_server import PostgresServer
from stack import MASTER_KEY, Stack
from typer.testing import CliRunner

from router.cli.main import app
from router.store import keys


async def made(hearth: Observer, **settings: Any) -> str:
    """A key with these settings, by /key/generate."""
    return str((await administer(hearth, "/key/generate", **settings))["key"])


async def administer(hearth: Observer, path: str, **body: Any) -> dict[str, Any]:
    answer = await hearth.http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


async def ask(sdk: openai.AsyncOpenAI, model: str = "small", **more: Any) -> Any:
    return await sdk.chat.completions.create(model=model, messages=more.pop("messages", HI), **more)


@pytest.fixture
async def asleep(hearth: Observer) -> AsyncIterator[Observer]:
    """`other` is asleep before, and nothing wakes it."""
    if "other" in await hearth.awake():
        await hearth.sleep("other")
    starts = len(hearth.stack.starts("other"))
    yield hearth
    assert (await hearth.phases())["other"] == "asleep"
    assert len(hearth.stack.starts("other")) == starts


# --- limits


async def test_a_key_may_use_what_it_is_for(asleep: Observer) -> None:
    async with asleep.sdk(await made(asleep, models=["small"])) as sdk:
        assert (await ask(sdk)).choices[0].message.content
        assert [model.id async for model in sdk.models.list()] == ["small"]
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await ask(sdk, "other")
    assert caught.value.type == "key_model_access_denied"


async def test_a_team_bounds_its_keys(asleep: Observer) -> None:
    team = await administer(asleep, "/team/new", team_alias="home", models=["small"])
    async with asleep.sdk(await made(asleep, team_id=team["team_id"])) as sdk:
        assert (await ask(sdk)).choices[0].message.content
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await ask(sdk, "other")
    assert caught.value.type == "team_model_access_denied"


@pytest.mark.parametrize("limits", [{"rpm_limit": 2}, {"tpm_limit": 30}], ids=["requests", "tokens"])
async def test_what_a_minute_may_hold(asleep: Observer, limits: dict[str, int]) -> None:
    async with asleep.sdk(await made(asleep, **limits)) as sdk:
        await ask(sdk)
        await ask(sdk)
        with pytest.raises(openai.RateLimitError) as caught:
            await ask(sdk, "other")
    assert 1 <= int(caught.value.response.headers["Retry-After"]) <= 60


async def test_requests_at_a_time(asleep: Observer) -> None:
    await asleep.wake("slow")
    async with asleep.sdk(await made(asleep, max_parallel_requests=1)) as sdk:
        first = asyncio.create_task(ask(sdk, "slow"))
        await asleep.until_running("slow", 1)
        with pytest.raises(openai.RateLimitError):
            await ask(sdk, "other")
        await first
        await ask(sdk)


async def test_a_spent_budget(hearth: Observer) -> None:
    async with hearth.sdk(await made(hearth, max_budget=0.1)) as sdk:
        await ask(sdk, "priced")  # 17 tokens at a cent

        async def refused() -> bool:
            try:
                await ask(sdk, "priced")
            except openai.APIStatusError as error:
                return error.type == "budget_exceeded"
            return False

        await until(refused, "what it has cost is known")


async def test_keys_that_are_not_valid(asleep: Observer) -> None:
    expired = await made(asleep, duration="1s")
    blocked, deleted = await made(asleep), await made(asleep)
    await administer(asleep, "/key/block", key=blocked)
    await administer(asleep, "/key/delete", keys=[deleted])
    for key in (blocked, deleted, "sk-made-up"):
        async with asleep.sdk(key) as sdk:
            with pytest.raises((openai.AuthenticationError, openai.PermissionDeniedError)):
                await ask(sdk, "other")

    async def has_expired() -> bool:
        return (await asleep.http.get("/v1/models", headers=bearer(expired))).status_code == 401

    await until(has_expired, "the key expires")


# --- what is kept


async def test_spend_is_logged_and_prompts_are_not(hearth: Observer, postgres: PostgresServer) -> None:
    key = await made(hearth, key_alias="spender")
    async with hearth.sdk(key) as sdk:
        answer = await ask(sdk, "priced", messages=[{"role": "user", "content": "marzipan zeppelin"}])

    async def logs() -> list[dict[str, Any]]:
        return (await hearth.http.get("/spend/logs", params={"api_key": key})).json()  # type: ignore[no-any-return]

    async def known() -> bool:
        info = (await hearth.http.get("/key/info", params={"key": key})).json()["info"]
        return bool(info["spend"]) and bool(await logs())

    await until(known, "the spend is in the database")
    (log,) = await logs()
    assert (log["model_group"], log["total_tokens"]) == ("priced", answer.usage.total_tokens)
    assert log["spend"] == pytest.approx(answer.usage.total_tokens * 0.01)
    with psycopg.connect(postgres.url) as connection:
        tables = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        for (table,) in tables:
            rows = connection.execute(f'select t::text from "{table}" t').fetchall()  # type: ignore[call-overload]
            kept = "".join(row for (row,) in rows)
            assert "zeppelin" not in kept, table
            assert answer.choices[0].message.content not in kept, table
            assert key not in kept, table


# --- the scheduler


async def test_priority_and_share_reach_the_line(hearth: Observer) -> None:
    key = await made(hearth, key_alias="ada", metadata={"priority": 4, "share": 0.25})
    hearth.stack.set_options("left", "--load-seconds", "20")
    request = hearth.http.build_request(
        "POST", "/v1/chat/completions", json={"model": "left", "messages": HI}, headers=bearer(key)
    )
    async with hearth.asking(request):
        await hearth.until_waiting(1)
        (entry,) = map(json.loads, await hearth.redis.hvals(keys.WAITING))
    assert (entry["priority"], entry["share"], entry["alias"]) == (4, 0.25, "ada")
    await hearth.until_no_requests()
    await hearth.sleep("left")


async def test_a_key_sees_its_own_requests_only(hearth: Observer) -> None:
    own, other = await made(hearth, key_alias="eve"), await made(hearth, key_alias="bob")
    await hearth.wake("slow")
    async with hearth.stream("slow", headers=bearer(own)) as stream:
        await first_line(stream, "data: ")
        seen = (await hearth.http.get("/lifecycle/requests", headers=bearer(own))).json()["requests"]
        others = (await hearth.http.get("/lifecycle/requests", headers=bearer(other))).json()["requests"]
    assert [request["alias"] for request in seen] == ["eve"]
    assert others == []


async def test_what_a_key_may_ask_of_hearth(asleep: Observer) -> None:
    headers = bearer(await made(asleep))
    for path in ("/lifecycle/models", "/lifecycle/catalogue", "/lifecycle/events?follow=false", "/metrics"):
        assert (await asleep.http.get(path, headers=headers)).status_code == 200, path
    for method, path in (
        ("POST", "/lifecycle/models/other/wake"),
        ("GET", "/lifecycle/history"),
        ("GET", "/lifecycle/models/small/logs"),
    ):
        assert (await asleep.http.request(method, path, headers=headers)).status_code == 403, path
    model = {"model_name": "x", "litellm_params": {"model": "openai/x"}}
    for path, body in (("/key/generate", {}), ("/team/new", {}), ("/model/new", model)):
        assert (await asleep.http.post(path, json=body, headers=headers)).status_code in (401, 403), path


def test_the_commands_for_keys_say_whose_keys_count(stack: Stack) -> None:
    environment = {"HEARTH_URL": stack.url, "HEARTH_API_KEY": MASTER_KEY, "COLUMNS": "200"}
    done = CliRunner().invoke(app, ["keys", "list"], env=environment)
    assert done.exit_code == 2
    assert "/key/generate" in done.stderr
