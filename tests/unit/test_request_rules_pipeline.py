"""All rules together: their order, who is let alone, and that a second time changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # LiteLLM's own
    import litellm
    from litellm.proxy import proxy_server
    from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth

    from plugins.request_rules.access import may_use
    from plugins.request_rules.pipeline import Pipeline

from router.errors import Unfit
from router.request_rules import RequestRules

STRICT = RequestRules.model_validate({
    "context_length": 4096, "max_output_tokens": 512, "tools": "strip", "flatten_text": True, "alternate_roles": True,
    "system_role": "user", "thinking": {}, "images": "refuse",
    "parameters": {"drop": ["seed"], "refuse": ["logit_bias"]},
})  # fmt: skip
CHAT = {
    "model": "strict", "seed": 5, "max_tokens": 9999, "tools": [{"type": "function", "function": {"name": "f"}}],
    "reasoning_effort": "high",
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    ],
}  # fmt: skip


def everybody(_: str) -> bool:
    return True


async def test_all_rules_at_once() -> None:
    before = copy.deepcopy(CHAT)
    found = await Pipeline({"strict": STRICT}).apply("strict", CHAT, "acompletion", everybody)
    assert found is not None
    assert found.data == {
        "model": "strict", "max_tokens": 512, "messages": [{"role": "user", "content": "be brief\n\nhi"}],
        "chat_template_kwargs": {"enable_thinking": True},
    }  # fmt: skip
    assert found.changes == (
        "seed removed", "tools removed", "text parts joined", "system text moved to the user",
        "reasoning_effort removed", "thinking=on", "max_tokens=512",
    )  # fmt: skip
    assert before == CHAT, "what LiteLLM holds is not changed in place"


_JUNK = st.sampled_from([
    None, True, 0, -1, 1.5, "", "x", "high", [], [1], [None], [[]], {}, {"a": 1}, {"effort": 5}, {"type": ["x"]},
    {"type": "text"}, [{"type": "image"}], [{"function": {"name": 1}}], {"tools": [1], "max_tokens": 5},
])  # fmt: skip
_ROLES = st.sampled_from(["system", "user", "assistant", "tool", "developer", "other"])
_MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": _ROLES, "content": st.sampled_from([None, "x", [{"type": "text", "text": "x"}]]) | _JUNK},
        optional=dict.fromkeys(("tool_calls", "reasoning_content", "name"), _JUNK),
    ),
    min_size=1,
    max_size=6,
)
_KEYS = (
    "max_tokens", "tools", "tool_choice", "functions", "reasoning_effort", "reasoning", "output_config", "thinking",
    "chat_template_kwargs", "extra_body", "system", "instructions",
)  # fmt: skip
_FORCING = RequestRules.model_validate({
    "context_length": 300, "tools": "force", "alternate_roles": True, "default_max_tokens": 9,
    "reasoning_effort": {"minimal": "low"}, "parameters": {"only": ["temperature"], "drop": ["extra_body"]},
})  # fmt: skip


@settings(max_examples=300)
@given(st.sampled_from([STRICT, _FORCING]), st.sampled_from(["acompletion", "aresponses", "anthropic_messages"]),
       _MESSAGES, st.dictionaries(st.sampled_from(_KEYS), _JUNK))  # fmt: skip
def test_nonsense_is_fitted_or_refused(
    rules: RequestRules, call_type: str, messages: list[dict[str, Any]], more: dict[str, Any]
) -> None:
    """What an engine makes of it is the engine's answer to give; an exception would be a 500 of ours."""
    data = {**more, "model": "m", "input" if call_type == "aresponses" else "messages": messages}
    before = copy.deepcopy(data)
    with contextlib.suppress(Unfit):
        asyncio.run(Pipeline({"m": rules}).apply("m", data, call_type, everybody))
    assert data == before


@pytest.mark.parametrize(
    ("call_type", "data"),
    [
        ("acompletion", CHAT),
        ("atext_completion", {"prompt": "hi", "max_tokens": "12", "seed": 1}),
        (
            "aresponses",
            {"input": "hi", "instructions": "be brief", "max_output_tokens": -1, "reasoning": {"effort": "low"}},
        ),
        ("anthropic_messages", {"messages": [{"role": "user", "content": "a"}] * 2, "max_tokens": 0, "system": "s"}),
    ],
)
async def test_a_second_time_changes_nothing(call_type: str, data: dict[str, Any]) -> None:
    pipeline = Pipeline({"strict": STRICT})
    once = await pipeline.apply("strict", data, call_type, everybody)
    assert once is not None
    assert await pipeline.apply("strict", once.data, call_type, everybody) is None


@pytest.mark.parametrize(
    "call_type", ["aembedding", "arerank", "atranscription", "_arealtime", "pass_through_endpoint"]
)
async def test_calls_that_generate_nothing_are_let_alone(call_type: str) -> None:
    data = {"input": "word " * 10_000, "max_tokens": -1, "logit_bias": {}}
    assert await Pipeline({"strict": STRICT}).apply("strict", data, call_type, everybody) is None


async def test_a_model_without_rules_is_let_alone() -> None:
    assert await Pipeline({"strict": STRICT}).apply("other", CHAT, "acompletion", everybody) is None
    with pytest.raises(Unfit, match="max_tokens"):
        await Pipeline({}).apply("other", {**CHAT, "max_tokens": -1}, "acompletion", everybody)


async def test_what_is_stripped_is_not_counted() -> None:
    data = {**CHAT, "tools": [{"description": "word " * 10_000}]}
    assert await Pipeline({"strict": STRICT}).apply("strict", data, "acompletion", everybody) is not None


async def test_only_models_that_the_caller_may_use_are_named() -> None:
    data = {"messages": [{"role": "user", "content": "word " * 5000}]}
    pipeline = Pipeline({"strict": STRICT, **{name: RequestRules(context_length=9000) for name in ("a", "b")}})
    with pytest.raises(Unfit, match="ask 'a'"):
        await pipeline.apply("strict", data, "acompletion", everybody)
    with pytest.raises(Unfit, match="ask 'b'"):
        await pipeline.apply("strict", data, "acompletion", lambda name: name == "b")
    with pytest.raises(Unfit, match="No model that you may use"):
        await pipeline.apply("strict", data, "acompletion", lambda name: False)


async def test_nothing_of_a_prompt_is_told_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    secret = "xyzzy"
    data = {**CHAT, "messages": [{"role": "user", "content": [{"type": "text", "text": secret}]}], "user": secret}
    with caplog.at_level(logging.DEBUG):
        found = await Pipeline({"strict": STRICT}).apply("strict", data, "acompletion", everybody)
        assert found is not None
        assert "text parts joined" in caplog.text
        long = {"messages": [{"role": "user", "content": f"{secret} " * 5000}]}
        with pytest.raises(Unfit) as caught:
            await Pipeline({"strict": STRICT}).apply("strict", long, "acompletion", everybody)
    told = caplog.text + caught.value.message + "".join(found.changes)
    assert not told.count(secret)


# --- which models a key may use


@pytest.fixture
def _two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [{"model_name": name, "litellm_params": {"model": f"hosted_vllm/{name}"}} for name in ("a", "b")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LiteLLM's own
        monkeypatch.setattr(proxy_server, "llm_router", litellm.Router(model_list=models))


@pytest.mark.parametrize(
    ("key", "usable"),
    [
        (UserAPIKeyAuth(user_role=LitellmUserRoles.PROXY_ADMIN, models=["b"]), ["a", "b"]),
        (UserAPIKeyAuth(), ["a", "b"]),
        (UserAPIKeyAuth(models=["b"]), ["b"]),
        (UserAPIKeyAuth(models=["nothing"]), []),
        (UserAPIKeyAuth(team_id="t", team_models=["a"]), ["a"]),
        (UserAPIKeyAuth(models=["b"], team_id="t", team_models=["a"]), []),
        (UserAPIKeyAuth(models=["all-team-models"], team_id="t", team_models=["a"]), ["a"]),
        (UserAPIKeyAuth(models=["all-team-models"]), ["a", "b"]),
    ],
)
@pytest.mark.usefixtures("_two_models")
def test_what_a_key_may_use(key: UserAPIKeyAuth, usable: list[str]) -> None:
    assert [name for name in ("a", "b", "unknown") if may_use(key, name)] == usable
