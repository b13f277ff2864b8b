"""The pure parts of the hook: the caller's wait limit, who is an admin, and how refusals are told."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # LiteLLM's own
    from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth

    from plugins import lifecycle

from plugins.answer import Answer
from plugins.request_scope import RequestScope
from router.errors import ModelFailed
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
