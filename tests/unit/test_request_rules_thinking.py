"""Thinking: off unless asked for, however the client asks, and in the words that the model's template reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from plugins.request_rules import thinking
from plugins.request_rules.request import Request, Shape
from router.request_rules import RequestRules

SWITCH: dict[str, Any] = {"thinking": {}}


def apply(shape: Shape, data: dict[str, Any], **rules: Any) -> Request:
    found = RequestRules.model_validate(rules or SWITCH)
    request = thinking.apply(Request(shape, data), found)
    assert thinking.apply(request, found).data == request.data, "it is not done once more"
    return request


def switched(value: Any) -> dict[str, Any]:
    return {"chat_template_kwargs": {"enable_thinking": value}}


@pytest.mark.parametrize("shape", [Shape.CHAT, Shape.MESSAGES])
def test_off_by_default(shape: Shape) -> None:
    found = apply(shape, {"temperature": 1})
    assert found.data == {"temperature": 1, **switched(False)}
    assert found.changes == ("thinking=off",)


@pytest.mark.parametrize(("default", "data"), [(True, switched(True)), (None, {})])
def test_other_defaults(default: bool | None, data: dict[str, Any]) -> None:
    assert apply(Shape.CHAT, {}, thinking={"default": default}).data == data


def test_the_templates_own_word() -> None:
    found = apply(Shape.CHAT, {"reasoning_effort": "high"}, thinking={"chat_template_kwarg": "thinking"})
    assert found.data == {"chat_template_kwargs": {"thinking": True}}


@pytest.mark.parametrize(
    ("data", "wish"),
    [
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "minimal"}, False),
        ({"reasoning_effort": "low"}, True),
        ({"reasoning_effort": "high"}, True),
        ({"reasoning_effort": {"effort": "medium"}}, True),
        ({"reasoningEffort": "high"}, True),
        ({"reasoningEffort": "none"}, False),
        ({"reasoning_effort": "banana"}, False),
        ({"reasoning_effort": 5}, False),
        ({"reasoning": {"effort": "xhigh"}}, True),
        ({"reasoning": {"effort": "none"}}, False),
        ({"output_config": {"effort": "high"}}, True),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, True),
        ({"thinking": {"type": "adaptive"}}, True),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, False),
        ({"thinking": True}, True),
        ({"thinking": False, "reasoning_effort": "high"}, False),
        ({"enable_thinking": True}, True),
    ],
)
@pytest.mark.parametrize("shape", [Shape.CHAT, Shape.MESSAGES])
def test_every_way_to_ask(shape: Shape, data: dict[str, Any], wish: bool) -> None:
    assert apply(shape, data).data == switched(wish)


def test_only_the_effort_is_taken_out_of_what_has_more() -> None:
    found = apply(Shape.RESPONSES, {"reasoning": {"effort": "low", "summary": "auto"}})
    assert found.data == {"reasoning": {"summary": "auto"}, "extra_body": switched(True)}


@pytest.mark.parametrize("value", [True, False])
def test_the_plainest_word_wins(value: bool) -> None:
    data = {**switched(value), "thinking": {"type": "disabled" if value else "enabled"}}
    assert apply(Shape.CHAT, data).data == switched(value)
    assert apply(Shape.CHAT, switched(value)).changes == ()
    assert apply(Shape.CHAT, {"extra_body": switched(value)}).changes == ()


def test_other_kwargs_of_the_client_stay() -> None:
    found = apply(
        Shape.CHAT, {"chat_template_kwargs": {"a": 1}, "extra_body": {"chat_template_kwargs": {"b": 2}, "c": 3}}
    )
    assert found.data["chat_template_kwargs"] == {"a": 1, "b": 2, "enable_thinking": False}


def test_where_litellm_passes_nothing_else_on_it_goes_into_extra_body() -> None:
    assert apply(Shape.RESPONSES, {}).data == {"extra_body": switched(False)}
    found = apply(Shape.RESPONSES, {**switched(True), "extra_body": {"top_k": 1}})
    assert found.data == {"extra_body": {"top_k": 1, **switched(True)}}


def test_a_bare_completion_has_no_template() -> None:
    assert apply(Shape.COMPLETION, {"reasoning_effort": "low"}).changes == ()


def test_without_rules_everything_stays() -> None:
    request = Request(Shape.CHAT, {"reasoning_effort": "low", "thinking": True})
    assert thinking.apply(request, RequestRules()) is request


@pytest.mark.parametrize(("given", "sent"), [("minimal", "low"), ("xhigh", "high"), ("high", "high"), ("none", None)])
def test_efforts_by_other_names(given: str, sent: str | None) -> None:
    mapping = {"minimal": "low", "xhigh": "high"}
    for place in ({"reasoning_effort": given}, {"reasoning_effort": {"effort": given}}):
        found = apply(Shape.CHAT, place, reasoning_effort=mapping).data
        assert found == ({"reasoning_effort": sent} if sent else {})  # engines of chats take it as text only
    found = apply(Shape.RESPONSES, {"reasoning": {"effort": given}}, reasoning_effort=mapping).data
    assert found == ({"reasoning": {"effort": sent}} if sent else {})


@pytest.mark.parametrize(("given", "sent"), [("xhigh", "high"), ("high", "high"), ("banana", None)])
@pytest.mark.parametrize(
    "place", [lambda it: {"output_config": {"effort": it}}, lambda it: {"reasoning": {"effort": it}},
              lambda it: {"reasoningEffort": it}, lambda it: {"reasoning_effort": it}]
)  # fmt: skip
def test_an_effort_is_sent_where_it_arrives(
    place: Callable[[str], dict[str, Any]], given: str, sent: str | None
) -> None:
    """LiteLLM and engines overlook an effort in a place that another API has for it."""
    mapping = {"minimal": "low", "xhigh": "high"}
    for shape in (Shape.CHAT, Shape.MESSAGES):
        assert apply(shape, place(given), reasoning_effort=mapping).data == ({"reasoning_effort": sent} if sent else {})
    found = apply(Shape.RESPONSES, place(given), reasoning_effort=mapping).data
    assert found == ({"reasoning": {"effort": sent}} if sent else {})


def test_what_stands_beside_an_effort_stays() -> None:
    form = {"type": "json_schema", "schema": {}}
    found = apply(
        Shape.MESSAGES, {"output_config": {"effort": "max", "format": form}}, reasoning_effort={"max": "high"}
    )
    assert found.data == {"output_config": {"format": form}, "reasoning_effort": "high"}
    assert found.changes == ("reasoning_effort=high",)


def test_the_first_effort_that_means_something_counts() -> None:
    found = apply(
        Shape.CHAT, {"reasoning_effort": "banana", "reasoning": {"effort": "low"}}, reasoning_effort={"none": "low"}
    )
    assert found.data == {"reasoning_effort": "low"}


def test_an_effort_that_is_sent_on_also_switches() -> None:
    found = apply(
        Shape.CHAT, {"reasoning_effort": "xhigh"}, thinking={}, reasoning_effort={"xhigh": "high", "none": False}
    )
    assert found.data == {"reasoning_effort": "high", **switched(True)}
    assert found.changes == ("reasoning_effort=high", "thinking=on")
