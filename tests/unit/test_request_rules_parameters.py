"""Parameters that are dropped or refused, and those that no rule touches."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.request_rules import parameters
from plugins.request_rules.request import Request, Shape
from router.errors import Unfit
from router.request_rules import RequestRules

#: What LiteLLM adds to every request, and what belongs to it.
LITELLMS = {
    "metadata": {}, "litellm_metadata": {}, "proxy_server_request": {}, "secret_fields": {}, "litellm_call_id": "i",
    "litellm_logging_obj": object(), "user": "me", "stream_options": {}, "timeout": 5, "num_retries": 0,
    "fallbacks": [],
}  # fmt: skip
NEEDED = {"model": "m", "messages": [], "stream": True}
ELSEWHERE = {"max_tokens": 5, "max_completion_tokens": 5, "tools": [], "tool_choice": "auto"}


def apply(data: dict[str, Any], rules: dict[str, Any] | None = None, **wanted: Any) -> Request:
    return parameters.apply(
        Request(Shape.CHAT, data), RequestRules.model_validate({"parameters": wanted, **(rules or {})})
    )


def test_without_a_list_everything_passes() -> None:
    request = Request(Shape.CHAT, {"weird": 1})
    assert parameters.apply(request, RequestRules()) is request


def test_what_is_not_there_is_not_dropped() -> None:
    assert apply({**NEEDED}, drop=["seed"], refuse=["n"]).changes == ()


def test_dropped() -> None:
    found = apply({**NEEDED, "seed": 1, "n": 2, "top_k": 3}, drop=["seed", "top_k"])
    assert found.data == {**NEEDED, "n": 2}
    assert found.changes == ("seed removed", "top_k removed")


def test_dropped_within_extra_body_too() -> None:
    found = apply({**NEEDED, "extra_body": {"seed": 1, "top_k": 2}}, drop=["seed"])
    assert found.data == {**NEEDED, "extra_body": {"top_k": 2}}


@pytest.mark.parametrize("data", [{"seed": 1}, {"extra_body": {"seed": 1}}])
def test_refused(data: dict[str, Any]) -> None:
    with pytest.raises(Unfit, match="seed") as caught:
        apply({**NEEDED, **data}, refuse=["seed"])
    assert (caught.value.param, caught.value.code) == ("seed", "unsupported_parameter")


def test_only_these_and_what_has_rules_of_its_own() -> None:
    kept = {**NEEDED, **LITELLMS, **ELSEWHERE, "temperature": 1}
    found = apply({**kept, "seed": 1, "weird": 2}, only=["temperature"])
    assert found.data == kept
    assert found.changes == ("seed removed", "weird removed")


def test_only_these_or_refused() -> None:
    with pytest.raises(Unfit, match=r"^weird:"):
        apply({**NEEDED, "weird": 2}, only=["temperature"], others="refuse")
    assert (
        apply({**NEEDED, **LITELLMS, **ELSEWHERE, "temperature": 1}, only=["temperature"], others="refuse").changes
        == ()
    )


def test_only_leaves_thinking_to_its_rule_where_there_is_one() -> None:
    given = {**NEEDED, "reasoning_effort": "low", "chat_template_kwargs": {}}
    assert apply(given, only=[]).data == NEEDED
    assert apply(given, {"thinking": {}}, only=[]).data == given


def test_names_of_callers_cannot_break_a_header() -> None:
    found = apply({**NEEDED, "a\r\nX-Injected: yes": 1, "\u20ac": 1, "b": 1}, only=[])
    assert found.data == NEEDED
    assert found.changes == ("b removed", "2 more parameters removed")


def test_many_are_not_all_told() -> None:
    found = apply({**NEEDED, **{f"p{number}": 1 for number in range(10_000)}}, only=[])
    assert found.data == NEEDED
    assert len("; ".join(found.changes)) < 1000
