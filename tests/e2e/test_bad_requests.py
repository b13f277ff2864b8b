"""Requests that no engine could answer: a clear 4xx in OpenAI's form, never a 500, and nothing wakes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from addresses import ALL, CHAT, COMPLETIONS, EMBEDDINGS, IN_PATH, JSON, MESSAGES, RERANK, RESPONSES, SPEECH, Address
from observer import Observer
from stack import MASTER_KEY

pytestmark = pytest.mark.e2e

_MAX_BODY = 2**20


@pytest.fixture
async def asleep(hearth: Observer) -> AsyncIterator[Observer]:
    """Every model is asleep before, and nothing has been started after."""
    for name in await hearth.awake():
        await hearth.sleep(name)
    starts = {name: len(hearth.stack.starts(name)) for name in hearth.stack.models}
    yield hearth
    assert await hearth.awake() == []
    assert starts == {name: len(hearth.stack.starts(name)) for name in hearth.stack.models}


def refused(answer: httpx.Response, *statuses: int) -> dict[str, Any]:
    """The error of an answer that must be a 4xx in OpenAI's form."""
    assert 400 <= answer.status_code < 500, f"{answer.status_code}: {answer.text[:500]}"
    assert not statuses or answer.status_code in statuses, f"{answer.status_code}: {answer.text[:500]}"
    error: dict[str, Any] = answer.json()["error"]
    assert isinstance(error, dict), answer.text[:500]
    assert isinstance(error["message"], str)
    assert error["message"]
    assert "Traceback" not in answer.text
    return error


async def post(hearth: Observer, address: Address, content: bytes, kind: str = "application/json") -> httpx.Response:
    return await hearth.http.post(address.url("small"), content=content, headers={"Content-Type": kind})


# --- bodies that are no JSON object

_NO_OBJECTS = {
    "empty": b"",
    "blank": b"  \n",
    "cut-off": b'{"model": "small", "messages": [{"role": "us',
    "text": b"hello",
    "list": b'[{"model": "small"}]',
    "empty-list": b"[]",
    "string": b'"small"',
    "number": b"17",
    "null": b"null",
    "true": b"true",
    "nan": b"NaN",
    "trailing": b'{"model": "small", "messages": [{"role": "user", "content": "hi"}]} and more',
    "two-objects": b'{"model": "small"}{"model": "small"}',
    "single-quotes": b"{'model': 'small'}",
    "latin-1": '{"model": "small", "messages": [{"role": "user", "content": "\u00e9"}]}'.encode("latin-1"),
    "utf-16": '{"model": "small"}'.encode("utf-16"),
    "bytes": bytes(range(256)),
    "nul": b"\x00" * 10,
    "brace-and-bytes": b'{"model": "small", "messages": "\xff\xfe"}',
    "lone-surrogate-model": b'{"model": "\\ud800", "messages": [{"role": "user", "content": "hi"}]}',
    "deep": b'{"model": "small", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep-objects": b'{"model": "small", "messages": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    "deep-unclosed": b'{"model": "small", "messages": ' + b"[" * 100_000,
    "deep-elsewhere": b'{"model": "small", "messages": [{"role": "user", "content": "hi"}], "x": '
    + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "long-number": b'{"model": "small", "messages": [{"role": "user", "content": "hi"}], "max_tokens": '
    + b"9" * 10_000 + b"}",
}  # fmt: skip


@pytest.mark.parametrize("content", _NO_OBJECTS.values(), ids=_NO_OBJECTS)
async def test_a_body_that_is_no_json_object(asleep: Observer, content: bytes) -> None:
    for address in (CHAT, COMPLETIONS, RESPONSES, MESSAGES, EMBEDDINGS, RERANK):
        refused(await post(asleep, address, content), 400)


@pytest.mark.parametrize("name", ["text", "list", "deep", "empty", "cut-off"])
async def test_a_body_that_is_no_json_object_with_the_model_in_the_path(asleep: Observer, name: str) -> None:
    refused(await post(asleep, IN_PATH, _NO_OBJECTS[name]), 400)


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "multipart/form-data",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "application/xml",
        "",
        "nonsense",
        "application/json; charset=utf-16",
    ],
)
async def test_a_body_of_another_kind_than_it_says(asleep: Observer, kind: str) -> None:
    for address in (CHAT, RESPONSES, EMBEDDINGS, SPEECH):
        refused(await post(asleep, address, b"[1, 2]", kind))
        refused(await post(asleep, address, b"\xff\xfe--x\r\n\x00", kind))


async def test_a_form_without_its_file_or_model(asleep: Observer) -> None:
    http = asleep.http
    refused(await http.post(SPEECH.path, data={"model": "small"}))
    refused(await http.post(SPEECH.path, files={"file": ("speech.wav", b"RIFF")}))
    refused(await http.post(SPEECH.path, data={"model": "small", "file": "no file"}))
    refused(await http.post(SPEECH.path, data={"model": ""}, files={"file": ("speech.wav", b"RIFF")}))
    refused(await http.post(SPEECH.path, json={"model": "small"}))


# --- wrong types

_STRANGE: list[Any] = [
    17, 1.5, True, False, None, "text", "", [], {}, [1], [None], [[]], [{}], {"a": 1}, ["text"], -1, 1e30, 2**63,
]  # fmt: skip


def _wrong(*right: Any) -> list[Any]:
    return [value for value in _STRANGE if not any(type(value) is type(each) and value == each for each in right)]


_MESSAGE = {"role": "user", "content": "hi"}
#: Per address: fields and the values that are wrong for them.
_FIELDS: dict[Address, dict[str, list[Any]]] = {
    CHAT: {
        "model": _wrong("text"),
        "messages": [*_wrong(), [_MESSAGE, "text"], [{"role": 1, "content": "hi"}], [{"content": "hi"}],
                     [{"role": "user", "content": 5}], [{"role": "user", "content": {"a": 1}}],
                     [{"role": "user", "content": [5]}], [{"role": None, "content": "hi"}], [[_MESSAGE]]],
        "stream": _wrong(True, False, None),
        "max_tokens": [*_wrong(17, None), -1, 1e30, 2**63, 2**64, "12", float(2**70)],
        "max_completion_tokens": [*_wrong(17, None), 2**63],
        "temperature": _wrong(17, 1.5, None, -1),
        "top_p": _wrong(17, 1.5, None, -1),
        "n": _wrong(17, None),
        "stop": _wrong(None, "text", "", [], ["text"]),
        "tools": [*_wrong(None, [], [{}]), "x"],
        "metadata": _wrong(None, {}, {"a": 1}),
        "user": _wrong(None, "text", ""),
        "timeout": [-1, 0, "x", [], {}, True],
        "num_retries": [-1, "x", [], {}, 1.5],
        "fallbacks": [17, "text", True],
        "stream_options": _wrong(None, {}, {"a": 1}),
        "response_format": _wrong(None, {}, {"a": 1}),
        "tool_choice": [17, True, [], 1.5],
        "logit_bias": _wrong(None, {}, {"a": 1}),
        "logprobs": [*_wrong(None, True, False)],
        "top_logprobs": [*_wrong(None, 17, -1)],
        "seed": [*_wrong(None, 17, -1)],
        "frequency_penalty": _wrong(17, 1.5, None, -1),
        "presence_penalty": _wrong(17, 1.5, None, -1),
        "extra_body": [17, "text", True, [1]],
        "cache": [17, "text", [1]],
        "guardrails": [17, True],
        "tags": [17, True],
    },
    COMPLETIONS: {"model": _wrong("text"),
                  "prompt": [17, 1.5, True, None, [], {}, [None], [[]], [{}], ["a", 5], {"a": 1}, 1e30],
                  "max_tokens": [*_wrong(17, None), 2**63], "stream": _wrong(True, False, None)},
    RESPONSES: {"model": _wrong("text"), "input": [17, 1.5, True, None, [], {}, [1], [None], [[]], {"a": 1}, 1e30],
                "max_output_tokens": [*_wrong(17, None), 2**63], "stream": _wrong(True, False, None),
                "instructions": [17, [], {}, True], "previous_response_id": [17, [], {}, True],
                "tools": _wrong(None, [], [{}]), "metadata": _wrong(None, {}, {"a": 1})},
    MESSAGES: {"model": _wrong("text"), "messages": [*_wrong(), [{"content": "hi"}], [{"role": "user", "content": 5}]],
               "max_tokens": [*_wrong(17, None), 2**63], "stream": _wrong(True, False, None),
               "system": [17, True, {}, 1.5], "tools": _wrong(None, [], [{}]), "stop_sequences": [17, "text", True, {}],
               "thinking": [17, True, "text", [1]]},
    EMBEDDINGS: {"model": _wrong("text"), "input": [17, 1.5, True, None, [], {}, [None], [[]], [{}], {"a": 1}, 1e30],
                 "dimensions": [-1, "x", [], {}, 1.5, 2**63], "encoding_format": [17, [], {}, True],
                 "user": _wrong(None, "text", "")},
    RERANK: {"model": _wrong("text"), "query": [17, True, None, [], {}, [1]],
             "documents": [17, True, None, "text", [], {}, [1], [None], [[]]], "top_n": [-1, "x", [], {}, 1.5, 2**63]},
}  # fmt: skip


@pytest.mark.parametrize(
    ("address", "field"),
    [(address, field) for address, fields in _FIELDS.items() for field in fields],
    ids=[f"{address}-{field}" for address, fields in _FIELDS.items() for field in fields],
)
async def test_a_field_of_the_wrong_type(asleep: Observer, address: Address, field: str) -> None:
    faults = []
    for value in _FIELDS[address][field]:
        for stream in ({}, {"stream": True}) if address.streams and field != "stream" else ({},):
            content = json.dumps({"model": "small", **address.body, **stream, field: value}).encode()
            try:
                error = refused(await post(asleep, address, content), 400)
                assert field in error["message"] or error.get("param") == field, error
            except (AssertionError, KeyError, TypeError) as fault:
                faults.append(f"{field}={value!r} {stream}: {str(fault)[:300]}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("address", JSON, ids=str)
async def test_a_required_field_is_missing(asleep: Observer, address: Address) -> None:
    for field in address.body:
        if field == "max_tokens":
            continue  # LiteLLM has a default for Anthropic's clients
        content = {"model": "small", **address.body}
        del content[field]
        error = refused(await post(asleep, address, json.dumps(content).encode()), 400)
        assert field in error["message"]
    if address is not IN_PATH:
        refused(await post(asleep, address, json.dumps(address.body).encode()), 400)


# --- names

_NAMES = [
    "constructor", "__proto__", "toString", "hasOwnProperty", "../x", "..", "/", "//", "a/../small", "small/../small",
    "a\nb", "a\r\nX-Injected: yes", "\u0000", " ", " small", "small ", "SMALL", "x" * 10_000, "\u65e5\u672c\u8a9e",
    "\U0001f525", "e\u0301", "%2e%2e", "%00", "*", "wild", "hosted_vllm/small", "openai/gpt-4", "small,left", "{model}",
    "${jndi:ldap://x}", "'; DROP TABLE models;--", "<script>", "None", "null", "undefined", "0", "true", "all",
    "lifecycle", "hearth:line", "default", "gpt-4", "claude-3-5-sonnet-latest",
]  # fmt: skip


@pytest.mark.parametrize("name", _NAMES, ids=lambda name: ascii(name)[:30])
async def test_a_name_that_is_no_model(asleep: Observer, name: str) -> None:
    for address in ALL:
        if address is not IN_PATH:
            answer = await asleep.http.send(address.request(asleep.http, name))
            refused(answer)
            assert "x-injected" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/v1/constructor/chat/completions",
        "/v1/__proto__/chat/completions",
        "/v1/../x/chat/completions",
        "/v1/%2e%2e/chat/completions",
        "/v1/a%0ab/chat/completions",
        "/v1/%00/chat/completions",
        "/v1/%ff/chat/completions",
        "/v1/%25/chat/completions",
        "/v1//chat/completions",
        "/v1/ /chat/completions",
        "/v1/" + "x" * 10_000 + "/chat/completions",
        "/v1/%E6%97%A5/chat/completions",
        "/v1/a/b/c/chat/completions",
        "/v1/small/../left/chat/completions",
        "/engines/nothing/chat/completions",
    ],
)
async def test_a_path_that_names_no_model(asleep: Observer, path: str) -> None:
    content = json.dumps(CHAT.body).encode()
    head = f"POST {path.replace(' ', '%20')} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {MASTER_KEY}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    status, body = await raw(asleep, head.encode() + content)
    assert 400 <= status < 500, body[:300]


# --- sizes


async def raw(hearth: Observer, request: bytes) -> tuple[int, bytes]:
    """Send these bytes as they are. Returns the answer's status and all that follows its first line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", hearth.stack.port)
    try:
        writer.write(request)
        await writer.drain()
    except ConnectionError:
        pass  # it was refused before all of it was sent
    answer = b""
    try:
        while part := await reader.read(2**16):
            answer += part
    except ConnectionError:
        pass  # nor was all of it read
    finally:
        writer.close()
    assert answer, "no answer at all"
    first, _, rest = answer.partition(b"\r\n")
    return int(first.split()[1]), rest


@pytest.mark.parametrize("address", ALL, ids=str)
async def test_a_body_that_is_too_long_by_its_own_account(asleep: Observer, address: Address) -> None:
    kind = "multipart/form-data; boundary=x" if address.form else "application/json"
    head = f"POST {address.url('small')} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {MASTER_KEY}\r\n"
    head += f"Content-Type: {kind}\r\nContent-Length: {_MAX_BODY + 1}\r\n\r\n"
    status, rest = await raw(asleep, head.encode())
    assert status == 413
    assert json.loads(rest.partition(b"\r\n\r\n")[2])["error"]["type"] == "request_too_large"


@pytest.mark.parametrize("address", ALL, ids=str)
async def test_a_body_that_grows_too_long(asleep: Observer, address: Address) -> None:
    async def content() -> AsyncIterator[bytes]:
        form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        yield form if address.form else b'{"a": "'
        for _ in range(_MAX_BODY // 2**16 + 2):
            yield b"a" * 2**16

    kind = "multipart/form-data; boundary=x" if address.form else "application/json"
    answer = await asleep.http.post(address.url("small"), content=content(), headers={"Content-Type": kind})
    assert refused(answer, 413)["type"] == "request_too_large"


async def test_the_longest_body_is_let_in(hearth: Observer) -> None:
    await hearth.wake("small")
    body = {"model": "small", **CHAT.body, "padding": ""}
    body["padding"] = "x" * (_MAX_BODY - len(json.dumps(body)))
    content = json.dumps(body).encode()
    assert len(content) == _MAX_BODY
    assert (await post(hearth, CHAT, content)).status_code != 413


async def test_absurdly_many_messages(asleep: Observer) -> None:
    for address in (CHAT, MESSAGES):
        request = address.request(asleep.http, "small", messages=[{"role": "user", "content": "a"}] * 10_000)
        assert "messages" in refused(await asleep.http.send(request), 400)["message"]


async def test_huge_headers(asleep: Observer) -> None:
    for size in (70_000, 100_000):
        head = f"POST {CHAT.path} HTTP/1.1\r\nHost: gateway\r\nX-Huge: {'x' * size}\r\nContent-Length: 0\r\n\r\n"
        status, _ = await raw(asleep, head.encode())
        assert 400 <= status < 500


async def test_lengths_that_make_no_sense(asleep: Observer) -> None:
    for length in ("-1", "abc", "1e9", "9" * 30, "+5"):
        head = f"POST {CHAT.path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {MASTER_KEY}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        status, _ = await raw(asleep, head.encode())
        assert 400 <= status < 500
