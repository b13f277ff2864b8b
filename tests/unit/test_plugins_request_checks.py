"""What is refused before anything wakes, and what is not."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from plugins.request_checks import LONGEST_NAME, MOST_MESSAGES, check_body, check_kind, is_for_a_model, takes_json

CHAT = "/v1/chat/completions"
HI = {"role": "user", "content": "hi"}
GOOD: dict[str, dict[str, Any]] = {
    CHAT: {"model": "m", "messages": [HI]},
    "/v1/completions": {"model": "m", "prompt": "hi"},
    "/v1/embeddings": {"model": "m", "input": ["a", "b"]},
    "/v1/responses": {"model": "m", "input": "hi"},
    "/v1/messages": {"model": "m", "messages": [HI], "max_tokens": 5},
    "/v1/rerank": {"model": "m", "query": "q", "documents": ["a", {"text": "b"}]},
    "/engines/m/chat/completions": {"messages": [HI]},
}


def check(path: str, **fields: Any) -> str | None:
    """The part that is wrong."""
    fault = check_body(path, json.dumps({**GOOD[path], **fields}).encode())
    return None if fault is None else fault.param


@pytest.mark.parametrize("path", GOOD)
def test_good_bodies_pass(path: str) -> None:
    assert check_body(path, json.dumps(GOOD[path]).encode()) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 1},
        {"stop": ["a"]},
        {"stream": None},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": []}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
        {"messages": [HI] * MOST_MESSAGES},
        {"tools": []},
        {"unknown_to_us": object.__name__},
        {"max_tokens": "12"},
        {"model": "x" * LONGEST_NAME},
    ],
)
def test_what_engines_may_understand_passes(fields: dict[str, Any]) -> None:
    assert check(CHAT, **fields) is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"model": "x" * (LONGEST_NAME + 1)}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [HI] * (MOST_MESSAGES + 1)}, "messages"),
        ({"messages": [HI, {"role": 7}]}, "messages[1].role"),
        ({"messages": [HI, "text"]}, "messages[1]"),
        ({"stream": "true"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"tools": 5}, "tools"),
        ({"stop": [5]}, "stop"),
    ],
)
def test_the_wrong_part_is_named(fields: dict[str, Any], param: str) -> None:
    found = check(CHAT, **fields)
    assert found is not None
    assert found.startswith(param)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\xff", b'{"a": NaN}', b"[" * 100_000, b'"text"'])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    fault = check_body(CHAT, body)
    assert fault is not None
    assert (fault.status, fault.type, fault.param) == (400, "invalid_request_error", None)


def test_each_address_has_its_own_shape() -> None:
    for path in ("/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/rerank"):
        assert check_body(path, json.dumps(GOOD[CHAT]).encode()) is not None


@pytest.mark.parametrize(
    ("path", "json_body", "for_model"),
    [
        (CHAT, True, True),
        ("/chat/completions", True, True),
        ("/v1/audio/transcriptions", False, True),
        ("/v1/messages/count_tokens", False, False),
        ("/v1/threads/t/messages", False, False),
        ("/key/generate", False, False),
        ("/model/new", True, False),
        ("/model/update", True, False),
    ],
)
def test_only_addresses_of_models_are_checked(path: str, json_body: bool, for_model: bool) -> None:
    assert takes_json(path) is json_body
    assert is_for_a_model(path) is for_model


@pytest.mark.parametrize(
    ("path", "kind", "refused"),
    [
        (CHAT, "application/json", False),
        (CHAT, None, False),
        (CHAT, "text/plain", False),
        (CHAT, "multipart/form-data; boundary=x", True),
        (CHAT, "application/x-www-form-urlencoded", True),
        (CHAT, "Multipart/Form-Data", True),
        ("/v1/audio/transcriptions", "multipart/form-data; boundary=x", False),
        ("/v1/audio/transcriptions", "application/json", True),
        ("/v1/audio/transcriptions", None, True),
        ("/key/generate", "multipart/form-data", False),
    ],
)
def test_kinds_of_bodies(path: str, kind: str | None, refused: bool) -> None:
    fault = check_kind(path, kind)
    assert (fault is not None) is refused
    assert fault is None or fault.status == 415


def test_a_model_that_is_added_brings_no_lifecycle_of_its_own() -> None:
    new = {"model_name": "x", "litellm_params": {"model": "openai/x"}}
    for info in ({}, {"model_info": None}, {"model_info": {"id": "1"}}, {"model_info": {"lifecycle": None}}):
        assert check_body("/model/new", orjson.dumps({**new, **info})) is None, info
    for path in ("/model/new", "/model/update"):
        fault = check_body(path, orjson.dumps({**new, "model_info": {"lifecycle": {"container": "db"}}}))
        assert fault is not None
        assert fault.param == "model_info.lifecycle"
        assert "only the configuration file" in fault.message
