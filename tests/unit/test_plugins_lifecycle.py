"""The pure parts of the hook: what the caller's headers say, who is an admin, and how refusals are told."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # LiteLLM's own
    from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth

    from plugins import lifecycle
    from plugins.litellm_settings import with_defaults

from plugins.answer import Answer
from plugins.request_scope import RequestScope
from router.errors import ModelFailed
from router.settings import LoadingMessages
from router.store.admission import Admission


class Sent:
    async def __call__(self, message: Any) -> None: ...


def request(*headers: tuple[bytes, bytes]) -> RequestScope:
    return RequestScope(Admission("unix:///nowhere/redis.sock"), Answer(Sent(), "/v1/chat/completions", 60), [*headers])


ADMIN = UserAPIKeyAuth(api_key="a", user_role=LitellmUserRoles.PROXY_ADMIN)
USER = UserAPIKeyAuth(api_key="b", user_role=LitellmUserRoles.INTERNAL_USER)


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("0.5", 0.5), (" 7 ", 7), ("1e3", 1000)])
async def test_the_wait_limit(text: str, seconds: float) -> None:
    assert lifecycle._wait_limit(request((b"x-hearth-max-wait", text.encode()))) == seconds


async def test_no_wait_limit() -> None:
    assert lifecycle._wait_limit(request()) is None


@pytest.mark.parametrize("text", ["", "soon", "-1", "nan", "inf", "1e999"])
async def test_a_wait_limit_that_makes_no_sense(text: str) -> None:
    with pytest.raises(lifecycle.Refused) as caught:
        lifecycle._wait_limit(request((b"x-hearth-max-wait", text.encode())))
    assert (caught.value.code, caught.value.status_code) == ("400", 400)


@pytest.mark.parametrize("default", LoadingMessages)
async def test_a_request_chooses_where_loading_messages_are_shown(default: LoadingMessages) -> None:
    assert lifecycle._shown_in(request(), default) is default
    for text, chosen in (("reasoning", "reasoning"), (" Content", "content"), ("off", "off")):
        assert lifecycle._shown_in(request((b"x-hearth-loading", text.encode())), default) == chosen


@pytest.mark.parametrize("text", ["", "yes", "reasoning,content"])
async def test_a_choice_that_there_is_not(text: str) -> None:
    with pytest.raises(lifecycle.Refused, match="reasoning, content or off") as caught:
        lifecycle._shown_in(request((b"x-hearth-loading", text.encode())), LoadingMessages.OFF)
    assert caught.value.param == "X-Hearth-Loading"


async def test_the_engines_lines_are_for_admins() -> None:
    refusal = ModelFailed("It failed.", model="m", phase="failed", retry_after=2.0, log=("first line", "last line"))
    told = lifecycle._answer(request(), refusal, ADMIN)
    assert "It failed." in told.message
    assert "first line\nlast line" in told.message
    assert lifecycle._answer(request(), refusal, USER).message == "It failed."
    assert (told.type, told.code, told.status_code) == ("model_failed", "503", 503)


def test_who_is_an_admin() -> None:
    assert lifecycle.is_admin(ADMIN)
    assert not lifecycle.is_admin(USER)
    assert not lifecycle.is_admin(UserAPIKeyAuth(api_key="c"))


def test_a_callers_name_gives_nothing_of_the_key_away() -> None:
    names = {lifecycle.caller_of(UserAPIKeyAuth(api_key=key)) for key in ("sk-one", "sk-two")}
    assert len(names) == 2
    assert not any("sk" in name or "one" in name for name in names)
    assert lifecycle.caller_of(ADMIN) == lifecycle.caller_of(ADMIN)


async def test_litellm_does_not_hear_of_disabled_models() -> None:
    async def read() -> dict[str, Any]:
        disabled = {"model_name": "old", "model_info": {"catalogue": {"disabled": "it is gone"}}}
        bare: list[dict[str, Any]] = [{"model_name": "bare"}, {"model_name": "empty", "model_info": None}]
        return {"model_list": [*bare, disabled, {"model_name": "new", "model_info": {"catalogue": {"disabled": None}}}]}

    config = await with_defaults(read)()
    assert [entry["model_name"] for entry in config["model_list"]] == ["bare", "empty", "new"]
