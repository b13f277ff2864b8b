"""Tools: left alone, stripped, refused, forced."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.request_rules import tools
from plugins.request_rules.request import Request, Shape
from router.errors import Unfit
from router.request_rules import RequestRules

TOOLS = [{"type": "function", "function": {"name": "f"}}]
ASK = {"role": "user", "content": "do it"}
SHAPES = [Shape.CHAT, Shape.RESPONSES, Shape.MESSAGES]


def apply(kind: Any, shape: Shape, **data: Any) -> Request:
    return tools.apply(Request(shape, data), RequestRules(tools=kind))


@pytest.mark.parametrize("shape", SHAPES)
def test_native_tools_are_left_alone(shape: Shape) -> None:
    assert apply("native", shape, tools=TOOLS, tool_choice="none").changes == ()


@pytest.mark.parametrize("shape", SHAPES)
def test_stripped_tools_leave_nothing_behind(shape: Shape) -> None:
    given = {
        "tools": TOOLS,
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "functions": [],
        "function_call": "auto",
    }
    found = apply("strip", shape, messages=[ASK], temperature=1, **given)
    assert found.data == {"messages": [ASK], "temperature": 1}
    assert found.changes == ("tools removed",)
    found = apply("strip", shape, messages=[ASK], extra_body={**given, "top_k": 1})
    assert found.data == {"messages": [ASK], "extra_body": {"top_k": 1}}


def test_without_tools_there_is_nothing_to_strip_or_refuse() -> None:
    for kind in ("strip", "refuse", "force"):
        assert apply(kind, Shape.CHAT, messages=[ASK]).changes == ()


@pytest.mark.parametrize("name", ["tools", "functions"])
def test_refused_tools(name: str) -> None:
    with pytest.raises(Unfit) as caught:
        apply("refuse", Shape.CHAT, **{name: TOOLS})
    with pytest.raises(Unfit):
        apply("refuse", Shape.CHAT, extra_body={name: TOOLS})
    assert (caught.value.param, caught.value.code) == ("tools", "unsupported_parameter")


@pytest.mark.parametrize("kind", ["strip", "refuse"])
def test_an_empty_list_of_tools_is_no_reason_to_refuse(kind: str) -> None:
    apply(kind, Shape.CHAT, tools=[])


@pytest.mark.parametrize(("shape", "choice"), [*zip(SHAPES, ["required", "required", {"type": "any"}], strict=True)])
@pytest.mark.parametrize(
    "given", [{}, {"tool_choice": "auto"}, {"tool_choice": None}, {"tool_choice": {"type": "auto"}}]
)
def test_forced_tools(shape: Shape, choice: Any, given: dict[str, Any]) -> None:
    found = apply("force", shape, tools=TOOLS, messages=[ASK], input=[ASK], **given)
    assert found.data["tool_choice"] == choice
    assert found.changes == ("tool_choice=required",)
    assert tools.apply(found, RequestRules(tools="force")) is found


@pytest.mark.parametrize(
    "choice", ["none", "required", {"type": "function", "function": {"name": "f"}}, {"type": "none"}]
)
def test_who_has_chosen_is_not_forced(choice: Any) -> None:
    assert apply("force", Shape.CHAT, tools=TOOLS, messages=[ASK], tool_choice=choice).changes == ()


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        (Shape.CHAT, {"messages": [ASK, {"role": "tool", "tool_call_id": "1", "content": "done"}]}),
        (Shape.CHAT, {"messages": [ASK, {"role": "function", "name": "f", "content": "done"}]}),
        (Shape.RESPONSES, {"input": [ASK, {"type": "function_call_output", "call_id": "1", "output": "done"}]}),
        (Shape.RESPONSES, {"input": "go on", "previous_response_id": "r"}),
        (Shape.MESSAGES, {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1"}]}]}),
    ],
)
def test_who_has_a_result_is_not_forced_again(shape: Shape, data: dict[str, Any]) -> None:
    assert apply("force", shape, tools=TOOLS, **data).changes == ()


def test_a_bare_completion_has_no_tools_to_force() -> None:
    assert apply("force", Shape.COMPLETION, tools=TOOLS, prompt="a").changes == ()
