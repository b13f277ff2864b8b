"""Keys without a database, from `hearth keys create` to the engine: each limit, and that nothing wakes beyond it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import openai
import pytest
from observer import HI, Observer, bearer, first_line, until
from stack import MASTER_KEY, Model, Stack
from typer.testing import CliRunner, Result

from router.cli.main import app
from router.store import keys
from router.store.key_ring import KeyLimits, KeyRing, caller_of_id, digest

pytestmark = pytest.mark.e2e

MakeKey = Callable[..., Any]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(
        tmp_path_factory.mktemp("keys"),
        [
            Model("small"),
            Model("other"),
            Model("slow", tokens_per_second=10, lifecycle={"idle_timeout": "1h"}),
            Model("priced", info={"input_cost_per_token": 0.01, "output_cost_per_token": 0.01}),
            Model("left", gpu="1", memory="60GiB", lifecycle={"stop_timeout": "2s"}),
        ],
        gpus={"0": {"memory": "100GiB"}, "1": {"memory": "100GiB"}},
        settings={"keepalive_interval": "300ms", "idle_timeout": "1h"},
    ) as stack:
        yield stack


@pytest.fixture
async def hearth(hearth: Observer) -> AsyncIterator[Observer]:
    """The stack as this test sees it; afterwards there are no keys."""
    yield hearth
    for key in await KeyRing(hearth.redis).all():
        await KeyRing(hearth.redis).revoke(key.name)


@pytest.fixture
async def ring(hearth: Observer) -> KeyRing:
    return KeyRing(hearth.redis)


@pytest.fixture
async def asleep(hearth: Observer) -> AsyncIterator[Observer]:
    """All models are asleep, before and after."""
    for name in await hearth.awake():
        await hearth.sleep(name)
    starts = {name: len(hearth.stack.starts(name)) for name in hearth.stack.models}
    yield hearth
    assert set((await hearth.phases()).values()) == {"asleep"}
    assert starts == {name: len(hearth.stack.starts(name)) for name in hearth.stack.models}


async def made(ring: KeyRing, life: float | None = None, **limits: Any) -> str:
    secret = await ring.create("ada", KeyLimits(**limits), life)
    assert secret is not None
    return secret


async def ask(sdk: openai.AsyncOpenAI, model: str = "small", **more: Any) -> Any:
    return await sdk.chat.completions.create(model=model, messages=HI, **more)  # type: ignore[arg-type]


# --- limits


async def test_a_key_may_use_what_it_is_for(hearth: Observer, ring: KeyRing) -> None:
    async with hearth.sdk(await made(ring, models=("small",))) as sdk:
        assert (await ask(sdk)).choices[0].message.content
        assert [model.id async for model in sdk.models.list()] == ["small"]


@pytest.mark.parametrize("model", ["other", "no-such-model"])
async def test_a_model_that_the_key_is_not_for(asleep: Observer, ring: KeyRing, model: str) -> None:
    async with asleep.sdk(await made(ring, models=("small",))) as sdk:
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await ask(sdk, model)
    assert caught.value.type == "key_model_access_denied"


async def test_requests_a_minute(hearth: Observer, ring: KeyRing) -> None:
    async with hearth.sdk(await made(ring, rpm=2)) as sdk:
        await ask(sdk)
        await ask(sdk)
        with pytest.raises(openai.RateLimitError, match="requests") as caught:
            await ask(sdk, "other")
    assert 1 <= int(caught.value.response.headers["Retry-After"]) <= 60
    assert (await hearth.phases())["other"] == "asleep", "the request that was refused woke nothing"


async def test_tokens_a_minute(hearth: Observer, ring: KeyRing) -> None:
    async with hearth.sdk(await made(ring, tpm=40)) as sdk:
        await ask(sdk)
        await ask(sdk)
        with pytest.raises(openai.RateLimitError, match="tokens") as caught:
            await ask(sdk)
    assert 1 <= int(caught.value.response.headers["Retry-After"]) <= 60


async def test_requests_at_a_time(hearth: Observer, ring: KeyRing) -> None:
    await hearth.wake("slow")
    async with hearth.sdk(await made(ring, parallel=1)) as sdk:
        first = asyncio.create_task(ask(sdk, "slow"))
        await hearth.until_running("slow", 1)
        with pytest.raises(openai.RateLimitError, match="which is its limit") as caught:
            await ask(sdk, "other")
        assert caught.value.type == "parallel_limit"
        assert caught.value.response.headers["Retry-After"] == "1"
        assert (await hearth.phases())["other"] == "asleep"
        await first
        await ask(sdk)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("when", ["it waits", "it runs"])
async def test_who_leaves_gives_the_place_back(hearth: Observer, ring: KeyRing, when: str, stream: bool) -> None:
    secret = await made(ring, parallel=1)
    model = "slow" if when == "it runs" else "left"
    await hearth.sleep("left")
    hearth.stack.set_options("left", "--load-seconds", "20")
    if when == "it runs":
        await hearth.wake("slow")
    body = {"model": model, "messages": HI, "stream": stream}
    request = hearth.http.build_request("POST", "/v1/chat/completions", json=body, headers=bearer(secret))
    async with hearth.asking(request):
        await (hearth.until_waiting(1) if when == "it waits" else hearth.until_running("slow", 1))
    await hearth.until_no_requests()
    async with hearth.sdk(secret) as sdk:

        async def answered() -> bool:
            try:
                await ask(sdk, max_tokens=1)
            except openai.RateLimitError:
                return False
            return True

        await until(answered, "the place is free again", limit=5)
    await hearth.sleep("left")


async def test_a_spent_budget(hearth: Observer, ring: KeyRing) -> None:
    secret = await made(ring, budget=0.1)
    async with hearth.sdk(secret) as sdk:
        await ask(sdk, "priced")  # 18 tokens at a cent

        async def refused() -> bool:
            try:
                await ask(sdk, "priced")
            except openai.UnprocessableEntityError as error:
                return error.type == "budget_exceeded"
            return False

        await until(refused, "what it has cost is known")
        await ask(sdk, "small")  # costs nothing


async def test_what_was_spent_before_counts(asleep: Observer, ring: KeyRing) -> None:
    """As after a restart of the gateway: all that it knows of the key comes from Redis."""
    secret = await made(ring, budget=5)
    key = await ring.of_secret(digest(secret))
    assert key is not None
    await ring.add_spend("an earlier gateway", 1, {key.id: (5.0, 500)})
    async with asleep.sdk(secret) as sdk:
        with pytest.raises(openai.UnprocessableEntityError, match=r"5\.0000 of 5\.0000 USD"):
            await ask(sdk, "priced")


async def test_an_expired_key(asleep: Observer, ring: KeyRing) -> None:
    async with asleep.sdk(await made(ring, life=0.001)) as sdk:
        with pytest.raises(openai.AuthenticationError, match="has expired") as caught:
            await ask(sdk)
    assert caught.value.type == "expired_key"


async def test_a_blocked_key(asleep: Observer, ring: KeyRing) -> None:
    secret = await made(ring)
    await ring.block("ada", blocked=True)
    async with asleep.sdk(secret) as sdk:
        with pytest.raises(openai.PermissionDeniedError, match="is blocked") as caught:
            await ask(sdk)
    assert caught.value.type == "key_blocked"


async def test_a_key_nobody_made(asleep: Observer) -> None:
    async with asleep.sdk("sk-hearth-made-up") as sdk:
        with pytest.raises(openai.AuthenticationError):
            await ask(sdk)


# --- changes


async def test_a_revoked_key_is_refused(hearth: Observer, ring: KeyRing) -> None:
    async with hearth.sdk(await made(ring)) as sdk:
        await ask(sdk)
        await ring.revoke("ada")

        async def refused() -> bool:
            try:
                await ask(sdk, max_tokens=1)
            except openai.AuthenticationError:
                return True
            return False

        await until(refused, "the key is refused")


async def test_a_key_that_is_revoked_while_it_waits(hearth: Observer, ring: KeyRing) -> None:
    secret = await made(ring)
    await hearth.sleep("left")
    hearth.stack.set_options("left", "--load-seconds", "1")
    async with hearth.sdk(secret) as sdk:
        waiting = asyncio.create_task(ask(sdk, "left"))
        await hearth.until_waiting(1)
        await ring.revoke("ada")
        with pytest.raises(openai.AuthenticationError):
            await waiting
    assert await hearth.engines["left"].requests() == []


async def test_both_secrets_work_while_the_old_one_has_grace(hearth: Observer, ring: KeyRing) -> None:
    old = await made(ring, rpm=3)
    new = await ring.rotate("ada", grace=60)
    assert new is not None
    async with hearth.sdk(old) as first, hearth.sdk(new) as second:
        await ask(first)
        await ask(second)
        await ask(first)
        with pytest.raises(openai.RateLimitError):  # the limits are the key's, and not the secret's
            await ask(second)


# --- the scheduler


async def test_priority_and_share_reach_the_line(hearth: Observer, ring: KeyRing) -> None:
    secret = await made(ring, priority=4, share=0.25)
    key = await ring.of_secret(digest(secret))
    assert key is not None
    await hearth.sleep("left")
    hearth.stack.set_options("left", "--load-seconds", "20")
    body = {"model": "left", "messages": HI}
    async with hearth.asking(
        hearth.http.build_request("POST", "/v1/chat/completions", json=body, headers=bearer(secret))
    ):
        await hearth.until_waiting(1)
        (entry,) = map(json.loads, await hearth.redis.hvals(keys.WAITING))
    assert (entry["priority"], entry["share"], entry["alias"]) == (4, 0.25, "ada")
    assert entry["caller"] == caller_of_id(key.id)
    await hearth.until_no_requests()
    await hearth.sleep("left")


async def test_a_key_sees_its_own_requests_only(hearth: Observer, ring: KeyRing) -> None:
    secret = await made(ring)
    await hearth.wake("slow")
    async with hearth.stream("slow", headers=bearer(secret)) as stream:
        await first_line(stream, "data: ")
        own = (await hearth.http.get("/lifecycle/requests", headers=bearer(secret))).json()["requests"]
        await ring.create("bob", KeyLimits())
        bob = await ring.rotate("bob")
        others = (await hearth.http.get("/lifecycle/requests", headers=bearer(str(bob)))).json()["requests"]
    assert [request["alias"] for request in own] == ["ada"]
    assert others == []


# --- administration


async def test_what_a_key_may_not_do(asleep: Observer, ring: KeyRing) -> None:
    headers = bearer(await made(ring))
    for method, path in (
        ("GET", "/lifecycle/keys"), ("GET", "/lifecycle/keys/ada"), ("POST", "/lifecycle/keys?name=x"),
        ("DELETE", "/lifecycle/keys/ada"), ("POST", "/lifecycle/keys/ada/rotate"),
        ("POST", "/lifecycle/keys/ada/block"), ("POST", "/lifecycle/keys/ada/unblock"),
        ("POST", "/lifecycle/models/small/wake"), ("GET", "/lifecycle/history"),
    ):  # fmt: skip
        assert (await asleep.http.request(method, path, headers=headers)).status_code == 403, path
    for path in ("/schedule/model_cost_map_reload/status", "/callbacks/list"):
        assert (await asleep.http.get(path, headers=headers)).status_code == 401, path
    assert len(await ring.all()) == 1


@pytest.mark.parametrize(
    "query", ["name=", "name=a/b", "name=a&rpm=0", "name=a&budget=-1", "name=a&budget=nan", "name=a&share=0",
              "name=a&life=0", "name=a&parallel=x", "name=a&priority=6"]
)  # fmt: skip
async def test_keys_that_make_no_sense(asleep: Observer, ring: KeyRing, query: str) -> None:
    assert (await asleep.http.post(f"/lifecycle/keys?{query}")).status_code == 422
    assert await ring.all() == []


def test_the_commands(stack: Stack) -> None:
    def keys_command(*arguments: str, key: str = MASTER_KEY, **more: Any) -> Result:
        environment = {"HEARTH_URL": stack.url, "HEARTH_API_KEY": key, "COLUMNS": "200"}
        return CliRunner().invoke(app, ["keys", *arguments], env=environment, **more)

    made_key = keys_command(
        "create",
        "eve",
        "--models",
        "small,other",
        "--rpm",
        "9",
        "--budget",
        "2.5",
        "--expires",
        "30d",
        "--priority",
        "4",
    )
    assert made_key.exit_code == 0, made_key.output
    secret = made_key.stdout.strip()
    assert secret.startswith("sk-hearth-")
    assert "No model is called" not in made_key.stderr
    mistyped = keys_command("create", "bob", "--models", "smal,*,none")
    assert mistyped.exit_code == 0
    assert "No model is called 'smal' here; did you mean 'small'?" in mistyped.stderr
    assert "No model is called 'none' here." in mistyped.stderr
    assert "'*'" not in mistyped.stderr
    assert keys_command("revoke", "bob", "--yes").exit_code == 0
    again = keys_command("create", "eve")
    assert again.exit_code == 1
    assert "already" in again.stderr

    listed = keys_command("list")
    assert "eve" in listed.stdout
    assert "models small, other; 9 requests/min; $2.5; priority 4" in listed.stdout
    assert secret not in listed.stdout
    own = json.loads(keys_command("show", "--json", key=secret).stdout)["keys"]
    assert [(key["name"], key["limits"]["rpm"], key["fingerprint"]) for key in own] == [("eve", 9, secret[-4:])]
    assert 29 * 86400 < own[0]["expires"] - own[0]["created"] <= 30 * 86400
    assert "admin key" in keys_command("list", key=secret).stderr
    assert keys_command("show").exit_code == 1  # the admin key is none of them

    assert "it is blocked" in keys_command("block", "eve").stdout
    assert "blocked" in keys_command("show", "eve").stdout
    assert keys_command("unblock", "eve").exit_code == 0
    rotated = json.loads(keys_command("rotate", "eve", "--grace", "1h", "--json").stdout)
    assert rotated["key"] not in ("", secret)
    assert keys_command("revoke", "eve", input="n\n").exit_code == 1
    assert keys_command("show", "eve").exit_code == 0
    assert keys_command("revoke", "eve", "--yes").exit_code == 0
    gone = keys_command("revoke", "eve", "--yes")
    assert (gone.exit_code, gone.stderr.strip()) == (1, "There is no key 'eve'.")
    assert "no keys but the admin key" in keys_command("list").stdout
