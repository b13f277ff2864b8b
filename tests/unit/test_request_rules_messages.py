"""The form of a conversation changes, and nothing of it is lost: no call and no result, no image, no word, no order."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.request_rules import messages
from plugins.request_rules.request import Request, Shape
from router.request_rules import RequestRules

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
ALTERNATE = RequestRules(alternate_roles=True)
FLATTEN = RequestRules(flatten_text=True)
AS_USER = RequestRules(system_role="user")
EVERYTHING = RequestRules(alternate_roles=True, flatten_text=True, system_role="user")


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def system(content: Any) -> dict[str, Any]:
    return {"role": "system", "content": content}


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def call(name: str) -> dict[str, Any]:
    return {"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}}


def result(name: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": name, "content": f"result of {name}"}


def chat(rules: RequestRules, *given: Any) -> Any:
    return messages.apply(Request(Shape.CHAT, {"messages": list(given)}), rules).data["messages"]


# --- text in one piece


@pytest.mark.parametrize(
    ("content", "flat"),
    [
        ([text("a")], "a"),
        ([text("a"), text("\u65e5\u672c \U0001f525")], "a\n\u65e5\u672c \U0001f525"),
        (["a", text("b")], "a\nb"),
        ([{"type": "input_text", "text": "a"}], "a"),
        ([text("a"), IMAGE], [text("a"), IMAGE]),
        ([{"type": "text"}], [{"type": "text"}]),
        ([], []),
        ("a", "a"),
        (None, None),
    ],
)
def test_flattening(content: Any, flat: Any) -> None:
    assert chat(FLATTEN, user(content, name="me")) == [user(flat, name="me")]


def test_nothing_to_flatten_is_no_change() -> None:
    request = Request(Shape.CHAT, {"messages": [user("a"), user([IMAGE])]})
    assert messages.apply(request, FLATTEN) is request


def test_flattening_of_system_blocks() -> None:
    request = Request(Shape.MESSAGES, {"system": [text("a"), text("b")], "messages": [user([text("c")])]})
    found = messages.apply(request, FLATTEN)
    assert found.data == {"system": "a\nb", "messages": [user("c")]}
    assert found.changes == ("text parts joined",)


# --- turns


def test_neighbours_are_merged() -> None:
    found = chat(ALTERNATE, system("s"), user("a"), user("b"), assistant("c"), assistant("d"), user("e"))
    assert found == [system("s"), user("a\n\nb"), assistant("c\n\nd"), user("e")]


def test_what_alternates_already_is_no_change() -> None:
    request = Request(Shape.CHAT, {"messages": [system("s"), user("a"), assistant("b"), user("c")]})
    assert messages.apply(request, ALTERNATE) is request


def test_results_of_parallel_calls_stay_apart() -> None:
    given = [user("go"), assistant(None, tool_calls=[call("1"), call("2")]), result("1"), result("2")]
    assert chat(ALTERNATE, *given) == given


def test_results_of_functions_stay_apart() -> None:
    given = [user("go"), *({"role": "function", "name": "f", "content": content} for content in "ab")]
    assert chat(ALTERNATE, *given) == given


def test_calls_of_neighbours_are_joined() -> None:
    found = chat(
        ALTERNATE, assistant("one", tool_calls=[call("1")]), assistant(None, tool_calls=[call("2")]), result("1")
    )
    assert found == [assistant("one", tool_calls=[call("1"), call("2")]), result("1")]


def test_words_after_a_call_stay_after_it() -> None:
    given = [assistant("a", tool_calls=[call("1")]), assistant("b")]
    assert chat(ALTERNATE, *given) == given


def test_images_stay_images() -> None:
    found = chat(ALTERNATE, user("look"), user([IMAGE]), user([text("and"), IMAGE]))
    assert found == [user([text("look"), IMAGE, text("and"), IMAGE])]


def test_late_system_text_joins_the_user() -> None:
    found = chat(ALTERNATE, system("a"), {"role": "developer", "content": "b"}, user("c"), system("d"), assistant("e"))
    assert found == [system("a\n\nb"), user("c\n\nd"), assistant("e")]


def test_names_that_differ_are_left_out() -> None:
    assert chat(ALTERNATE, user("a", name="x"), user("b", name="x")) == [user("a\n\nb", name="x")]
    assert chat(ALTERNATE, user("a", name="x"), user("b", name="y")) == [user("a\n\nb")]


def test_thoughts_are_joined() -> None:
    given = (assistant("a", reasoning_content="x"), assistant("b", reasoning_content="y"))
    assert chat(ALTERNATE, *given) == [assistant("a\n\nb", reasoning_content="x\n\ny")]


def test_a_message_with_something_unknown_stays_by_itself() -> None:
    given = [user("a"), user("b", audio={"id": 1}), user("c")]
    assert chat(ALTERNATE, *given) == given
    given = [assistant("a", tool_calls=True), assistant("b", tool_calls={"a": 1}), assistant("c", tool_calls=5)]
    assert chat(ALTERNATE, *given) == given


def test_what_clients_put_beside_a_message_is_no_reason_to_leave_it_alone() -> None:
    given = [assistant("a", annotations=[], refusal=None), assistant("b", audio=None, provider_specific_fields={})]
    assert [turn["content"] for turn in chat(ALTERNATE, *given)] == ["a\n\nb"]
    (merged,) = chat(ALTERNATE, user("a", cache_control={"type": "ephemeral"}), user("b"))
    assert merged["content"] == "a\n\nb"


def test_results_within_user_messages_stay_whole() -> None:
    results = [{"type": "tool_result", "tool_use_id": name, "content": "x"} for name in ("1", "2")]
    request = Request(Shape.MESSAGES, {"messages": [user(results[:1]), user(results[1:]), user("go")]})
    assert messages.apply(request, ALTERNATE).data["messages"] == [user([*results, text("go")])]


def test_items_of_an_input() -> None:
    one, two = (
        {"type": "function_call", "call_id": "1"},
        {"type": "function_call_output", "call_id": "1", "output": "x"},
    )
    picture = {"type": "input_image", "image_url": "https://example.org/a.png"}
    request = Request(
        Shape.RESPONSES, {"input": [user("a"), user([picture]), one, two, two, assistant("b"), user("c")]}
    )
    merged = user([{"type": "input_text", "text": "a"}, picture])
    assert messages.apply(request, ALTERNATE).data["input"] == [merged, one, two, two, assistant("b"), user("c")]


# --- no system role


def test_system_text_goes_in_front_of_the_user() -> None:
    assert chat(AS_USER, system("a"), system("b"), user("c"), user("d")) == [user("a\n\nb\n\nc"), user("d")]
    assert chat(AS_USER, system("a"), user([IMAGE])) == [user([text("a"), IMAGE])]
    assert chat(AS_USER, system("a"), assistant("b")) == [user("a"), assistant("b")]
    assert chat(AS_USER, user("a"), system("b")) == [user("a"), user("b")]


def test_instructions_go_in_front_of_the_user() -> None:
    found = messages.apply(Request(Shape.MESSAGES, {"system": [text("a")], "messages": [user("b")]}), AS_USER)
    assert found.data == {"messages": [user([text("a"), text("b")])]}
    found = messages.apply(Request(Shape.RESPONSES, {"instructions": "a", "input": "b"}), AS_USER)
    assert found.data == {"input": [user("a\n\nb")]}
    assert found.changes == ("system text moved to the user",)


@pytest.mark.parametrize("data", [{"input": "b"}, {"instructions": None, "input": "b"}, {"input": [user("b")]}])
def test_without_instructions_nothing_moves(data: dict[str, Any]) -> None:
    request = Request(Shape.RESPONSES, data)
    assert messages.apply(request, AS_USER) is request


@pytest.mark.parametrize("prompt", ["a", ["a", "b"], [1, 2]])
def test_bare_prompts_have_no_form(prompt: Any) -> None:
    request = Request(Shape.COMPLETION, {"prompt": prompt})
    assert messages.apply(request, EVERYTHING) is request


# --- whatever comes

_TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
_PARTS = st.one_of(st.builds(text, _TEXTS), st.integers(0, 99).map(lambda number: {**IMAGE, "n": number}))
_CONTENTS = st.one_of(st.none(), _TEXTS, st.lists(_PARTS, max_size=3))
_CALLS = st.lists(st.uuids().map(str).map(call), max_size=2)
_MESSAGES = st.lists(
    st.one_of(
        st.builds(system, _TEXTS),
        st.builds(user, _CONTENTS, name=st.sampled_from(["x", "y"])),
        st.builds(user, _CONTENTS),
        st.builds(assistant, _CONTENTS, tool_calls=_CALLS),
        st.builds(result, st.uuids().map(str)),
        st.builds(user, _CONTENTS, audio=st.integers()),
    ),
    max_size=8,
)
_RULES = st.builds(
    RequestRules,
    flatten_text=st.booleans(),
    alternate_roles=st.booleans(),
    system_role=st.sampled_from(["native", "user"]),
)


def _all(conversation: list[dict[str, Any]]) -> str:
    """All letters, images and ids in their order."""
    found = ""
    for message in conversation:
        content = message["content"]
        for part in content if isinstance(content, list) else [text(content or "")]:
            found += part["text"] if part["type"] == "text" else json.dumps(part)
        found += "".join(each["id"] for each in message.get("tool_calls") or ()) + message.get("tool_call_id", "")
    return "".join(found.split())


@settings(deadline=None)
@given(_MESSAGES, _RULES)
def test_nothing_is_lost_and_the_order_is_kept(conversation: list[dict[str, Any]], rules: RequestRules) -> None:
    request = Request(Shape.CHAT, {"messages": conversation})
    before = json.dumps(conversation)
    once = messages.apply(request, rules)
    assert _all(once.data["messages"]) == _all(conversation)
    assert json.dumps(conversation) == before, "what LiteLLM holds is not changed in place"
    assert messages.apply(once, rules).data == once.data, "it is not done once more"
    assert (once is request) == (once.data == request.data)


@settings(deadline=None)
@given(_MESSAGES)
def test_turns_alternate_between_tools_and_what_cannot_be_merged(conversation: list[dict[str, Any]]) -> None:
    turns = messages.apply(Request(Shape.CHAT, {"messages": conversation}), EVERYTHING).data["messages"]
    for one, other in itertools.pairwise(turns):
        apart = "audio" in one or "audio" in other or (one.get("tool_calls") and other["content"])
        assert one["role"] != other["role"] or one["role"] == "tool" or apart
    assert "system" not in {turn["role"] for turn in turns}
