"""What a streaming caller hears while it waits for its model: SSE comments, which programs skip, or, where it asked for
them, loading messages: events in the form of its address's own answers, which programs show to people.

Client libraries join what all events of a stream say, so a loading message leaves everything out that the answer says
itself: a role too, which they would join to `assistantassistant`. No event may come before the first of an answer of
/v1/responses, and before that of /v1/messages only a ping; callers there have comments (and pings).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import Any

from plugins.answer import Sign
from plugins.answer_forms import place_headers
from plugins.request_scope import RequestScope
from router.errors import StoreUnavailable
from router.quantities import format_duration
from router.settings import LoadingMessages
from router.store.ticket import Place, Ticket

LOADING_HEADER = b"x-hearth-loading"

#: A text as an SSE event of one address.
Dialect = Callable[[str], bytes]

#: Seconds between two looks at the place of a caller with loading messages. It gets one when there is news.
_LOOK = 1.0


class Progress:
    """One caller's signs of life until its answer begins. every: seconds between them at least; None: the interval."""

    def __init__(self, scope: RequestScope, ticket: Ticket, shown_in: LoadingMessages, data: dict[str, Any]) -> None:
        self._scope = scope
        self._ticket = ticket
        self._name = str(data.get("model"))
        self._dialect = dialect(scope.answer.path, shown_in, data, ticket.id)
        self._end = "\n" if shown_in is LoadingMessages.REASONING else "\n\n"  # in Markdown, a paragraph of its own
        self._said = ""
        self._said_at = time.monotonic()
        self.every = min(_LOOK, scope.answer.interval) if self._dialect else None

    async def __call__(self) -> Sign:
        """The next sign of life; an empty one when the last is recent and nothing is new."""
        place = await self._place()
        headers = place_headers(self._ticket.model, place) if place else {}
        comment = f": hearth: {_comment(self._ticket, place)}\n\n".encode()
        if self._dialect is None:
            return Sign(comment, headers)
        now = time.monotonic()
        text = loading_text(self._name, place, self._ticket.waited) if place else self._said
        if text != self._said:
            self._said, body = text, self._dialect(text + self._end)
        elif now - self._said_at < self._scope.answer.interval:
            return Sign(b"")
        else:
            body = self._dialect("") if place else comment
        self._said_at = now
        return Sign(body, headers)

    async def _place(self) -> Place | None:
        """Where the caller stands; None when its model works for it already, or Redis cannot say."""
        if self._ticket.leased:
            return None
        try:
            return await self._scope.admission.place(self._ticket)
        except StoreUnavailable:
            return None


def _comment(ticket: Ticket, place: Place | None) -> str:
    if ticket.leased:
        return f"{ticket.model} is working on the answer"
    if place is None:
        return "waiting"
    text = f"{ticket.model} is {place.phase}"
    if place.position:
        text += f", place {place.position} in line"
    if place.expected_seconds is not None:
        text += f", about {format_duration(place.expected_seconds)}"
    if place.at_most_seconds is not None:
        text += f", at most {format_duration(place.at_most_seconds)}"
    return text


def loading_text(name: str, place: Place, waited: float | None) -> str:
    """What a person reads, such as `Waking my-model: place 2 in line, about 40 s, at most 6 min`. Times are so coarse
    that another text is news. waited: seconds so far, told where nothing is known of what is to come."""
    doing = "Waiting for" if place.phase in ("ready", "draining") else "Waking"
    parts = [f"place {place.position} in line"] if place.position else []
    if place.expected_seconds is not None:
        roughly = _roughly(place.expected_seconds, round)
        parts.append(f"about {roughly}" if roughly else "any moment now")
    elif waited is not None and (roughly := _roughly(waited, math.floor)):
        parts.append(f"{roughly} so far")
    if place.at_most_seconds is not None and (roughly := _roughly(place.at_most_seconds, math.ceil)):
        parts.append(f"at most {roughly}")
    return f"{doing} {name}: {', '.join(parts)}" if parts else f"{doing} {name}"


def _roughly(seconds: float, to_whole: Callable[[float], int]) -> str:
    """Coarser the longer it is; empty for none."""
    limits = ((20.0, 5), (90.0, 10), (300.0, 30), (3600.0, 60), (math.inf, 360))
    step = next(step for limit, step in limits if seconds < limit)
    whole = to_whole(seconds / step) * step
    if whole < 90:
        return f"{whole} s" if whole else ""
    return f"{whole / 60:g} min" if whole < 3600 else f"{whole / 3600:g} h"


def dialect(path: str, shown_in: LoadingMessages, data: dict[str, Any], request_id: str) -> Dialect | None:
    """How answers to the request `data` on `path` can say something before they begin; None where they cannot, or where
    it is not wanted. Content for which the caller asked for a form (JSON) says nothing but that."""
    if shown_in is LoadingMessages.OFF:
        return None
    if path.endswith("/messages"):
        return _ping
    as_content = shown_in is LoadingMessages.CONTENT
    head = {"created": int(time.time()), "model": data.get("model")}
    if path.endswith("/chat/completions"):
        if as_content and (data.get("response_format") or {}).get("type", "text") != "text":
            return None
        head = {"id": f"chatcmpl-{request_id}", "object": "chat.completion.chunk", **head}
        key = "content" if as_content else "reasoning_content"
        return lambda text: _event(head, {"index": 0, "delta": {key: text}, "finish_reason": None})
    if path.endswith("/completions") and as_content:
        head = {"id": f"cmpl-{request_id}", "object": "text_completion", **head}
        return lambda text: _event(head, {"index": 0, "text": text, "logprobs": None, "finish_reason": None})
    return None


def _event(head: dict[str, Any], choice: dict[str, Any]) -> bytes:
    return f"data: {json.dumps({**head, 'choices': [choice]})}\n\n".encode()


def _ping(text: str) -> bytes:
    comment = f": hearth: {text.strip()}\n\n" if text else ""
    return f'{comment}event: ping\ndata: {{"type": "ping"}}\n\n'.encode()
