"""`model_info.request_rules`: what is read, where its defaults come from, and what is said of mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from router.config import parse
from router.errors import ConfigError
from router.request_rules import RequestRules, rules_of

WHERE = "model_list[0] (m).model_info.request_rules"


def document(*infos: dict[str, Any], name: str = "m") -> dict[str, Any]:
    settings = {"gpus": {"0": {"memory": "24GiB"}}}
    models = [{"model_name": name, "litellm_params": {"model": "openai/m"}, "model_info": info} for info in infos]
    return {"general_settings": {"lifecycle": settings}, "model_list": models}


def test_a_model_of_which_nothing_is_said_has_no_rules() -> None:
    assert parse(document({}, {"mode": "chat"})).rules == {}


def test_no_rule_changes_anything_by_default() -> None:
    rules = RequestRules()
    assert (rules.context_length, rules.tools, rules.images, rules.system_role) == (None, "native", "accept", "native")
    assert (rules.flatten_text, rules.alternate_roles) == (False, False)
    assert (rules.thinking, rules.reasoning_effort) == (None, None)
    assert (rules.parameters.drop, rules.parameters.refuse, rules.parameters.only) == (frozenset(), frozenset(), None)


def test_litellms_own_limits_are_the_defaults() -> None:
    info = {"max_input_tokens": 4096, "max_output_tokens": 512}
    assert parse(document(info)).rules["m"] == RequestRules(context_length=4096, max_output_tokens=512)
    assert rules_of({**info, "request_rules": {"context_length": 8192}}) == RequestRules(
        context_length=8192, max_output_tokens=512
    )


def test_the_weights_repository_has_the_tokenizer() -> None:
    info = {"catalogue": {"weights": "somebody/model"}}
    assert rules_of(info) is None, "it is no rule by itself"
    assert rules_of({**info, "request_rules": {}}) == RequestRules(tokenizer="somebody/model")
    assert rules_of({**info, "max_input_tokens": 9}) == RequestRules(tokenizer="somebody/model", context_length=9)
    assert rules_of({**info, "request_rules": {"tokenizer": "/own.json"}}) == RequestRules(tokenizer="/own.json")
    assert rules_of({**info, "request_rules": {"tokenizer": None}}) == RequestRules()


@pytest.mark.parametrize("limit", ["many", -1, 0, None, [4096]])
def test_limits_of_litellm_that_are_none_are_left_to_it(limit: Any) -> None:
    assert rules_of({"max_input_tokens": limit}) is None


@pytest.mark.parametrize(
    ("written", "read"), [("on", True), ("off", False), (True, True), (False, False), (None, None)]
)
def test_on_and_off_with_and_without_quotes(written: Any, read: bool | None) -> None:
    rules = rules_of({"request_rules": {"thinking": {"default": written}}})
    assert rules is not None
    assert rules.thinking is not None
    assert rules.thinking.default is read


def test_thinking_is_off_unless_something_else_is_said() -> None:
    rules = rules_of({"request_rules": {"thinking": {}}})
    assert rules is not None
    assert rules.thinking is not None
    assert (rules.thinking.default, rules.thinking.chat_template_kwarg) == (False, "enable_thinking")


def test_efforts_switch_or_are_renamed() -> None:
    section = {"thinking": {}, "reasoning_effort": {"none": "off", "low": True, "xhigh": "high"}}
    rules = rules_of({"request_rules": section})
    assert rules is not None
    assert rules.reasoning_effort == {"none": False, "low": True, "xhigh": "high"}


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ({"flaten_text": True}, ".flaten_text: is not a known key; did you mean 'flatten_text'?"),
        ({"thinking": {"defalt": True}}, ".thinking.defalt: is not a known key; did you mean 'default'?"),
        ({"parameters": {"droop": []}}, ".parameters.droop: is not a known key; did you mean 'drop'?"),
        ({"tools": "none"}, ".tools: Input should be 'native', 'strip', 'refuse' or 'force'"),
        ({"context_length": 0}, ".context_length: Input should be greater than or equal to 1"),
        ({"reasoning_effort": {"low": "off"}}, ": reasoning_effort has on or off, but there is no thinking to switch"),
        ({"parameters": {"drop": ["messages"]}}, ".parameters: 'messages' cannot be left out of a request"),
        ({"parameters": {"drop": ["n"], "refuse": ["n"]}}, ".parameters: 'n' stands in two lists"),
        ({"parameters": {"drop": ["n"], "only": ["n"]}}, ".parameters: 'n' stands in two lists"),
        ("strict", ": Input should be a valid dictionary or instance of RequestRules"),
    ],
)
def test_mistakes_are_named_with_their_place(section: Any, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(document({"request_rules": section}))
    assert str(caught.value) == WHERE + fault


def test_entries_of_one_name_have_the_same_rules() -> None:
    strict, lax = {"request_rules": {"images": "refuse"}}, {"request_rules": {}}
    assert parse(document(strict, strict)).rules["m"].images == "refuse"
    with pytest.raises(ConfigError, match="other request rules"):
        parse(document(strict, lax))
