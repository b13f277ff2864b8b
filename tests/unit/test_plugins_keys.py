"""The pure parts of the key check and of a key's limits."""

from __future__ import annotations

import time
import warnings
from types import SimpleNamespace
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # LiteLLM's own
    from litellm.proxy import proxy_server
    from litellm.proxy._types import LitellmUserRoles, ProxyException, UserAPIKeyAuth

    from plugins import key_auth, key_limits, lifecycle, litellm_settings

from plugins.answer import Answer
from plugins.request_scope import RequestScope, _current
from router.errors import StoreUnavailable
from router.store.admission import Admission
from router.store.key_ring import Key, KeyLimits, caller_of_id
from router.store.known_keys import KnownKeys

MASTER = "sk-0f4a7c1d92be4e53a86d17c05b9e3f28"


def key(*, expires: float | None = None, blocked: bool = False, spend: float = 0.0, **limits: Any) -> Key:
    return Key("0a1b", "ada", "wxyz", KeyLimits(**limits), 1.0, expires, blocked, spend)


class Sent:
    async def __call__(self, message: Any) -> None: ...


def request() -> RequestScope:
    return RequestScope(Admission("unix:///nowhere/redis.sock"), Answer(Sent(), "/v1/chat/completions", 60), [])


class Ring(KnownKeys):
    """Knows one key; `away` stands for Redis."""

    def __init__(self, known: Key | None = None, *, away: bool = False) -> None:
        super().__init__("unix:///nowhere/redis.sock")
        self.key, self.away = known, away

    async def find(self, secret: str) -> Key | None:
        if self.away:
            raise StoreUnavailable("Redis does not answer")
        return self.key if secret == "sk-hearth-ada" else None

    async def current(self, key_id: str) -> Key | None:
        return await self.find("sk-hearth-ada")


def asked() -> Any:
    return SimpleNamespace(scope={"path": "/v1/chat/completions"})


@pytest.fixture(autouse=True)
def master_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_server, "master_key", MASTER)


# --- the check


async def test_the_master_key_is_an_admin_with_and_without_redis() -> None:
    for check in (key_auth.check_key, key_auth.KeyCheck(Ring(away=True))):
        who = await check(asked(), MASTER)
        assert lifecycle.is_admin(who)


@pytest.mark.parametrize("secret", ["", None, "sk-wrong", MASTER + "x"])
async def test_other_keys_are_unknown(secret: Any) -> None:
    for check in (key_auth.check_key, key_auth.KeyCheck(Ring(key()))):
        with pytest.raises(ProxyException) as caught:
            await check(asked(), secret)
        assert (caught.value.code, caught.value.type) == ("401", "authentication_error")


async def test_without_a_master_key_nobody_is_an_admin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_server, "master_key", None)
    with pytest.raises(ProxyException):
        await key_auth.check_key(asked(), "")


async def test_a_key_as_litellm_knows_it() -> None:
    limits = {"models": ("a",), "rpm": 3, "tpm": 40, "parallel": 1, "budget": 1.0, "priority": 2, "share": 0.5}
    who = await key_auth.KeyCheck(Ring(key(**limits)))(asked(), "sk-hearth-ada")
    assert (who.models, who.rpm_limit, who.tpm_limit) == (["a"], 3, 40)
    assert (who.max_parallel_requests, who.max_budget) == (None, None)  # these are ours
    assert who.metadata == {"priority": 2, "share": 0.5}
    assert (who.key_alias, who.user_role) == ("ada", LitellmUserRoles.INTERNAL_USER)
    assert not lifecycle.is_admin(who)
    assert lifecycle.caller_of(who) == caller_of_id("0a1b")


async def test_the_request_knows_its_key() -> None:
    scope = request()
    token = _current.set(scope)
    try:
        await key_auth.KeyCheck(Ring(key()))(asked(), "sk-hearth-ada")
    finally:
        _current.reset(token)
    assert scope.key == key()


async def test_no_key_counts_while_redis_is_away() -> None:
    with pytest.raises(ProxyException) as caught:
        await key_auth.KeyCheck(Ring(away=True))(asked(), "sk-hearth-ada")
    assert (caught.value.code, caught.value.headers) == ("503", {"Retry-After": "2"})


def test_when_a_key_is_valid() -> None:
    for good in (key(), key(expires=101.0)):
        assert key_auth.require_valid(good, 100.0) is good
    for bad, code, kind in (
        (None, "401", "authentication_error"),
        (key(expires=100.0), "401", "expired_key"),
        (key(blocked=True), "403", "key_blocked"),
    ):
        with pytest.raises(ProxyException) as caught:
            key_auth.require_valid(bad, 100.0)
        assert (caught.value.code, caught.value.type) == (code, kind)


@pytest.mark.parametrize("rules", ["a database", "a custom_auth"])
async def test_the_ring_gives_way_to(rules: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = object() if rules == "a custom_auth" else None
    monkeypatch.setattr(proxy_server, "user_custom_auth", own)
    if rules == "a database":
        monkeypatch.setenv("DATABASE_URL", "postgresql://somewhere/hearth")
    litellm_settings.check_keys_unless_others_do(Ring())
    assert proxy_server.user_custom_auth is own
    assert not key_auth.ring_rules()


# --- the limits


FREE = {"model_info": {"lifecycle": {"gpu": "0"}}, "litellm_params": {"model": "hosted_vllm/a"}}
PRICED = {"model_info": {"lifecycle": {"gpu": "0"}, "output_cost_per_token": 1e-6}}
PRICED_TOO = {"model_info": {"lifecycle": {"gpu": "0"}}, "litellm_params": {"input_cost_per_token": 1e-6}}
ELSEWHERE = {"model_info": {}, "litellm_params": {"model": "openai/b"}}


@pytest.mark.parametrize(
    ("entries", "free"),
    [([FREE], True), ([FREE, FREE], True), ([], False), ([PRICED], False), ([PRICED_TOO], False), ([ELSEWHERE], False),
     ([FREE, ELSEWHERE], False), ([{"model_info": {"lifecycle": {"gpu": "0"}, "input_cost_per_token": 0}}], True)],
)  # fmt: skip
def test_which_models_cannot_cost_anything(entries: list[dict[str, Any]], free: bool) -> None:
    assert key_limits._is_free(entries) is free


class Hooked:
    """The hook for requests of one key."""

    def __init__(self, ring: Ring) -> None:
        self.hook = key_limits.KeyLimits(ring)
        self.ring = ring

    async def ask(self, scope: RequestScope | None = None, model: str = "b") -> RequestScope:
        scope = scope or request()
        scope.key = self.ring.key
        token = _current.set(scope)
        try:
            await self.hook.async_pre_call_hook(UserAPIKeyAuth(), None, {"model": model}, "acompletion")
        finally:
            _current.reset(token)
        return scope

    async def refused(self) -> lifecycle.Refused:
        with pytest.raises(lifecycle.Refused) as caught:
            await self.ask()
        return caught.value


async def test_places_are_taken_and_given_back() -> None:
    hooked = Hooked(Ring(key(parallel=2)))
    first, second = await hooked.ask(), await hooked.ask()
    assert (await hooked.refused()).code == "429"
    await hooked.ask(first)  # LiteLLM calls some hooks twice: one request has one place
    second.end()
    second.end()
    await hooked.ask()
    assert (await hooked.refused()).type == "parallel_limit"
    first.end()
    assert await hooked.ask()


async def test_nothing_is_left_of_requests_that_are_over() -> None:
    hooked = Hooked(Ring(key(parallel=1)))
    (await hooked.ask()).end()
    assert hooked.hook._open == {}


async def test_a_budget_counts_what_redis_has_not_heard_of() -> None:
    hooked = Hooked(Ring(key(budget=1.0, spend=0.5)))
    await hooked.ask()
    hooked.ring.add_spend("0a1b", 0.5, 1)
    refusal = await hooked.refused()
    assert (refusal.code, refusal.type) == ("422", "budget_exceeded")


async def test_a_budget_of_nothing_buys_nothing() -> None:
    assert (await Hooked(Ring(key(budget=0))).refused()).type == "budget_exceeded"


@pytest.mark.parametrize(
    ("metadata", "spent"),
    [({"user_api_key_hash": "0a1b"}, 0.25), ({"user_api_key_hash": "litellm_proxy_master_key"}, 0.0), ({}, 0.0)],
)
async def test_what_is_counted(metadata: dict[str, str], spent: float) -> None:
    ring = Ring(key())
    kwargs = {"response_cost": 0.25, "standard_logging_object": {"metadata": metadata, "total_tokens": 9}}
    await key_limits.KeyLimits(ring).async_log_success_event(kwargs, None, None, None)
    assert ring.spend(key()) == spent
    assert (ring._spent != {}) == (spent > 0)


async def test_who_has_waited_is_looked_at_again() -> None:
    hooked = Hooked(Ring(key()))
    scope = await hooked.ask()
    assert scope.still_allowed is not None
    await scope.still_allowed()
    hooked.ring.away = True
    await scope.still_allowed()  # it was valid when it came
    hooked.ring.away, hooked.ring.key = False, key(expires=time.time() - 1)
    with pytest.raises(ProxyException):
        await scope.still_allowed()
    hooked.ring.key = None
    with pytest.raises(ProxyException):
        await scope.still_allowed()
