"""The pure parts of the hook: what the caller's headers say, who is an admin, and how refusals are told."""

from __future__ import annotations

import base64
import warnings
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # LiteLLM's own
    import litellm
    from litellm.litellm_core_utils import token_counter
    from litellm.proxy._types import LiteLLMRoutes, LitellmUserRoles, UserAPIKeyAuth
    from litellm.proxy.auth.route_checks import RouteChecks

    from plugins import lifecycle
    from plugins.litellm_settings import count_images_without_fetching_them, let_keys_see_their_own, with_defaults

from plugins.answer import Answer
from plugins.request_scope import RequestScope
from router.errors import ModelFailed
from router.settings import LoadingMessages
from router.store.admission import Admission


class Sent:
    async def __call__(self, message: Any) -> None: ...


def request(*headers: tuple[bytes, bytes]) -> RequestScope:
    return RequestScope(Admission("unix:///nowhere/redis.sock"), Answer(Sent(), "/v1/chat/completions", 60), [*headers])


#: A GIF of 600 by 600 pixels, as far as its head says.
IMAGE = "data:image/gif;base64," + base64.b64encode(b"GIF89a" + 2 * (600).to_bytes(2, "little")).decode()
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
    assert not lifecycle.is_admin(ADMIN.model_copy(update={"allowed_routes": ["llm_api_routes"]}))
    assert not lifecycle.is_admin(UserAPIKeyAuth(api_key="c"))


def test_a_callers_name_gives_nothing_of_the_key_away() -> None:
    names = {lifecycle.caller_of(UserAPIKeyAuth(api_key=key)) for key in ("sk-one", "sk-two")}
    assert len(names) == 2
    assert not any("sk" in name or "one" in name for name in names)
    assert lifecycle.caller_of(ADMIN) == lifecycle.caller_of(ADMIN)


class Router:
    """LiteLLM's, with these entries."""

    def __init__(self, *entries: dict[str, Any]) -> None:
        self.model_list = list(entries)
        self.model_id_to_deployment_index_map = {each["model_info"]["id"]: i for i, each in enumerate(entries)}

    def get_model_list(self, model_name: str | None = None) -> list[dict[str, Any]]:
        return [each for each in self.model_list if model_name in (None, each["model_name"])]


def entry(name: str, api_base: str, **info: Any) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": {"api_base": api_base}, "model_info": {"id": name, **info}}


ENGINES = {"http://box:8000/v1": "small"}


def test_whose_engine_an_entry_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    lifecycle_of = {"command": ["vllm"]}
    entries = [
        entry("small", "http://box:8000/v1", lifecycle=lifecycle_of),
        entry("nickname", "http://BOX:8000/v1/", db_model=True),
        entry("elsewhere", "https://example.com/v1", db_model=True),
        entry("own", "http://box:9000/v1", lifecycle=lifecycle_of, db_model=True),
        entry("both", "http://box:8000/v1", lifecycle=lifecycle_of, db_model=True),
    ]
    monkeypatch.setattr(lifecycle.proxy_server, "llm_router", Router(*entries))
    for name, engine in (("small", "small"), ("nickname", "small"), ("elsewhere", None), ("both", "small")):
        assert lifecycle._resolve(name, ENGINES) == engine, name
    with pytest.raises(lifecycle.Refused, match="only the configuration file") as caught:
        lifecycle._resolve("own", ENGINES)
    assert (caught.value.type, caught.value.code) == ("model_without_engine", "404")


def test_every_key_may_ask_our_addresses_and_no_others_of_admins() -> None:
    let_keys_see_their_own()
    let_keys_see_their_own()
    routes, for_models = LiteLLMRoutes.self_managed_routes.value, LiteLLMRoutes.llm_api_routes.value
    assert routes.count("/lifecycle/{path:path}") == for_models.count("/lifecycle/{path:path}") == 1
    for path in ("/lifecycle/requests", "/lifecycle/models/a/wake", "/metrics"):
        assert RouteChecks.check_route_access(route=path, allowed_routes=routes), path
    for path in ("/lifecyclex", "/config/update", "/metrics/x", "/key/lifecycle/a"):
        assert not RouteChecks.check_route_access(route=path, allowed_routes=routes), path


async def test_litellm_does_not_hear_of_disabled_models() -> None:
    async def read() -> dict[str, Any]:
        disabled = {"model_name": "old", "model_info": {"catalogue": {"disabled": "it is gone"}}}
        bare: list[dict[str, Any]] = [{"model_name": "bare"}, {"model_name": "empty", "model_info": None}]
        return {"model_list": [*bare, disabled, {"model_name": "new", "model_info": {"catalogue": {"disabled": None}}}]}

    config = await with_defaults(read)()
    assert [entry["model_name"] for entry in config["model_list"]] == ["bare", "empty", "new"]


async def test_litellm_counts_tokens_without_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read() -> dict[str, Any]:
        return {}

    fetched: list[str] = []
    monkeypatch.setattr(litellm.utils, "_return_huggingface_tokenizer", fetched.append)
    monkeypatch.setattr(litellm, "disable_hf_tokenizer_download", None)
    for name, value in (await with_defaults(read)()).get("litellm_settings", {}).items():
        monkeypatch.setattr(litellm, name, value)  # as LiteLLM does with its settings
    litellm.utils.select_tokenizer("hosted_vllm/llama-3.3-70b")
    assert fetched == []


def test_litellm_counts_images_without_asking_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: Any) -> None:
        pytest.fail("somebody else's server was asked")

    monkeypatch.setattr(token_counter, "safe_get", asked)
    monkeypatch.setattr(
        token_counter, "get_image_dimensions", token_counter.get_image_dimensions
    )  # put back afterwards
    count_images_without_fetching_them()
    for url in ("https://example.com/cat.png", IMAGE):
        image = {"type": "image_url", "image_url": {"url": url, "detail": "high"}}
        message = {"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}
        assert litellm.token_counter(model="small", messages=[message]) > 200
