"""Chat requests through the gateway, and what comes back, measured."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from router.errors import HearthError

PATH = "/v1/chat/completions"
_CHANGED = "X-Hearth-Changed"
#: On every answer to a request that has been let through to its model, refusals of the line and of the engine included.
_ADMITTED = "X-Hearth-Model"
_BAD_REQUEST = 400
Message = Mapping[str, Any]


class NoAnswer(HearthError):
    """A request was refused, or its answer is not one. status: of HTTP, 0 when none came. retry_after: seconds, where
    another try makes sense. by_gateway: its request rules refused it, before an engine saw it."""

    def __init__(
        self, message: str, status: int = 0, retry_after: float | None = None, *, by_gateway: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.by_gateway = by_gateway


@dataclass(slots=True)
class Answer:
    """One answer. first_seconds, seconds: from the request to the first token, and to the end, with the wait for a
    model that slept. chunks: events with a delta; 0 for an answer that was not streamed. done: whether the stream
    ended with [DONE]. tokens: None where the engine did not say. changed: what the gateway's request rules have changed
    of the request, in their words."""

    text: str = ""
    reasoning: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    chunks: int = 0
    done: bool = False
    first_seconds: float | None = None
    seconds: float = 0.0
    changed: str = ""


class Asker:
    """One connection; use it with `async with`. limit: seconds for which nothing may come, a wait in line included.

    The methods raise NoAnswer.
    """

    def __init__(self, url: str, key: str | None, limit: float) -> None:
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(limit, connect=5.0),
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def chat(self, model: str, messages: Sequence[Message], **body: Any) -> Answer:
        """One whole answer."""
        began = time.monotonic()
        try:
            answer = await self._client.post(PATH, json={"model": model, "messages": messages, **body})
        except httpx.HTTPError as error:
            raise _broken(error) from error
        if answer.is_error:
            raise _refused(answer)
        found = whole_answer(answer.content)
        found.seconds = time.monotonic() - began
        found.changed = answer.headers.get(_CHANGED, "")
        return found

    async def stream(self, model: str, messages: Sequence[Message], **body: Any) -> Answer:
        """One streamed answer, with its usage at the end."""
        given = {
            "model": model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            **body,
        }
        began, found = time.monotonic(), Answer()
        try:
            async with self._client.stream("POST", PATH, json=given) as answer:
                if answer.is_error:
                    await answer.aread()
                    raise _refused(answer)
                found.changed = answer.headers.get(_CHANGED, "")
                async for data in _events(answer):
                    if add_event(found, data) and found.first_seconds is None:
                        found.first_seconds = time.monotonic() - began
        except httpx.HTTPError as error:
            raise _broken(error) from error
        found.seconds = time.monotonic() - began
        return found


def whole_answer(content: bytes) -> Answer:
    """The answer in a body of /v1/chat/completions. Raises NoAnswer."""
    try:
        body = json.loads(content)
        choice = body["choices"][0]
        found = Answer(finish_reason=choice.get("finish_reason") or "")
        _add_message(found, choice["message"])
        _add_usage(found, body)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise NoAnswer("the answer has not the form of a chat completion") from error
    return found


def add_event(found: Answer, data: str) -> bool:
    """Adds what one event of a stream says; whether it brought a token. Raises NoAnswer for one that tells an error."""
    if data == "[DONE]":
        found.done = True
        return False
    try:
        event = json.loads(data)
        if event.get("error"):
            error = event["error"]
            raise NoAnswer(str(error.get("message") if isinstance(error, dict) else error)[:500])
        _add_usage(found, event)
        choices = event.get("choices") or []
        if not choices:
            return False
        found.finish_reason = choices[0].get("finish_reason") or found.finish_reason
        delta = choices[0].get("delta") or {}
        found.chunks += 1
        return _add_message(found, delta)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise NoAnswer("an event of the stream has not the form of a chat completion") from error


def _add_message(found: Answer, message: Mapping[str, Any]) -> bool:
    text = message.get("content") or ""
    reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
    calls = message.get("tool_calls") or []
    found.text += text
    found.reasoning += reasoning
    found.tool_calls.extend(calls)
    return bool(text or reasoning or calls)


def _add_usage(found: Answer, body: Mapping[str, Any]) -> None:
    usage = body.get("usage") or {}
    found.prompt_tokens = usage.get("prompt_tokens", found.prompt_tokens)
    found.completion_tokens = usage.get("completion_tokens", found.completion_tokens)


async def _events(answer: httpx.Response) -> AsyncIterator[str]:
    async for line in answer.aiter_lines():
        if line.startswith("data:"):
            yield line.removeprefix("data:").strip()


def _refused(answer: httpx.Response) -> NoAnswer:
    try:
        body = answer.json()
        said = body["error"]["message"] if "error" in body else body["detail"]
    except (ValueError, LookupError, TypeError):
        said = answer.text or answer.reason_phrase
    try:
        retry_after = float(answer.headers["Retry-After"])
    except (KeyError, ValueError):
        retry_after = None
    by_gateway = answer.status_code == _BAD_REQUEST and _ADMITTED not in answer.headers
    reason = f"{answer.status_code}: {' '.join(str(said).split())[:500]}"
    return NoAnswer(reason, answer.status_code, retry_after, by_gateway=by_gateway)


def _broken(error: httpx.HTTPError) -> NoAnswer:
    if isinstance(error, httpx.ConnectError):
        return NoAnswer("the gateway cannot be reached")
    if isinstance(error, httpx.TimeoutException):
        return NoAnswer("nothing came within the limit")
    return NoAnswer(f"the connection broke off ({error or type(error).__name__})")
