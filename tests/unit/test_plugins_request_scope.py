"""The outermost layer: paths, limits of bodies, and clients that leave, with an ASGI app that a test can watch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest

from plugins.request_scope import RequestScopes, current_scope
from router.errors import Cancelled
from router.store.admission import Admission
from router.store.ticket import Ticket

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
Message = MutableMapping[str, Any]


class App:
    """Reads its body like LiteLLM, and answers with what it has seen."""

    def __init__(self) -> None:
        self.scopes: list[MutableMapping[str, Any]] = []
        self.bodies: list[bytes] = []
        self.tickets: list[Ticket] = []
        self.release: asyncio.Event | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        self.bodies.append(body)
        if (own := current_scope()) is not None:
            own.ticket = Ticket("m", cut=own.cut)
            self.tickets.append(own.ticket)
        if self.release is not None:
            await self.release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


class Client:
    """An ASGI client: the parts of its body, then silence until it leaves."""

    def __init__(self, *parts: bytes, whole: bool = True) -> None:
        last = len(parts) - 1
        self._messages: list[Message] = [
            {"type": "http.request", "body": part, "more_body": not whole or index < last}
            for index, part in enumerate(parts)
        ]
        self.left = asyncio.Event()
        self.answer: list[Message] = []

    async def receive(self) -> Message:
        if self._messages:
            return self._messages.pop(0)
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.answer.append(message)

    @property
    def status(self) -> int:
        return int(self.answer[0]["status"])


def scope(path: str, *headers: tuple[bytes, bytes], method: str = "POST") -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "headers": list(headers)}


@pytest.fixture
async def app() -> App:
    return App()


@pytest.fixture
async def admission() -> Admission:
    """One that has never been started and has no Redis: these tests only look at what it is told."""
    return Admission("unix:///nowhere/redis.sock")


@pytest.fixture
def scopes(app: App, admission: Admission) -> RequestScopes:
    return RequestScopes(app, admission, max_body=1000, keepalive_interval=60)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the app under test tells nobody
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("path", "given_on"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/m/chat/completions", "/engines/m/chat/completions"),
        ("/v1/a/b/chat/completions", "/engines/a/b/chat/completions"),
        ("/v1/a b/chat/completions", "/engines/a b/chat/completions"),
        ("/v1/moderations", "/v1/moderations"),
        ("/v2/m/chat/completions", "/v2/m/chat/completions"),
    ],
)
async def test_the_model_in_the_path(app: App, scopes: RequestScopes, path: str, given_on: str) -> None:
    client = Client(BODY)
    await scopes(scope(path), client.receive, client.send)
    assert app.scopes[0]["path"] == given_on
    assert client.status == 200


async def test_a_path_that_is_not_served(app: App, scopes: RequestScopes) -> None:
    client = Client(BODY)
    await scopes(scope("/vllm/v1/chat/completions"), client.receive, client.send)
    assert client.status == 404
    assert app.scopes == []


async def test_a_json_body_is_handed_on_whole(app: App, scopes: RequestScopes) -> None:
    client = Client(BODY[:5], BODY[5:9], BODY[9:])
    await scopes(scope("/v1/chat/completions"), client.receive, client.send)
    assert app.bodies == [BODY]
    assert client.status == 200


@pytest.mark.parametrize("body", [b"[]", b"", b"{", b'{"model": 5}'])
async def test_a_bad_body_is_refused(app: App, scopes: RequestScopes, body: bytes) -> None:
    client = Client(body)
    await scopes(scope("/v1/m/chat/completions"), client.receive, client.send)
    assert client.status == 400
    assert app.bodies == [b""], "the app has seen nothing of it"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/audio/transcriptions"])
async def test_a_body_that_grows_too_long(app: App, scopes: RequestScopes, path: str) -> None:
    client = Client(*[b"x" * 300] * 4)
    await scopes(
        scope(path, *([(b"content-type", b"multipart/form-data")] if "audio" in path else [])),
        client.receive,
        client.send,
    )
    assert client.status == 413


async def test_a_body_that_says_it_is_too_long(app: App, scopes: RequestScopes) -> None:
    client = Client()
    await scopes(scope("/v1/chat/completions", (b"content-length", b"1001")), client.receive, client.send)
    assert client.status == 413
    assert app.scopes == []


@pytest.fixture
def ended(admission: Admission) -> list[tuple[Ticket, bool]]:
    """Each ticket whose request is over, and whether it was completed."""
    found: list[tuple[Ticket, bool]] = []
    admission.end = lambda ticket: found.append((ticket, ticket.completed))  # type: ignore[method-assign]
    return found


async def test_the_ticket_ends_with_the_request(
    app: App, scopes: RequestScopes, ended: list[tuple[Ticket, bool]]
) -> None:
    client = Client(BODY)
    await scopes(scope("/v1/chat/completions"), client.receive, client.send)
    assert ended == [(app.tickets[0], True)]
    assert current_scope() is None


async def test_a_client_that_leaves_ends_the_ticket_and_the_work(
    app: App, scopes: RequestScopes, ended: list[tuple[Ticket, bool]]
) -> None:
    app.release = asyncio.Event()  # never set: the app would work for ever
    client = Client(BODY)
    serving = asyncio.create_task(scopes(scope("/v1/chat/completions"), client.receive, client.send))
    await until(lambda: app.tickets)
    client.left.set()
    async with asyncio.timeout(10):
        await serving
    assert ended == [(app.tickets[0], False)]
    assert app.tickets[0].verdict.done(), "a wait for the ticket has been broken off"
    assert client.answer == []


async def test_a_request_that_is_cut_ends_with_its_reason_and_its_work(
    app: App, scopes: RequestScopes, ended: list[tuple[Ticket, bool]]
) -> None:
    app.release = asyncio.Event()  # never set: the app would work for ever
    client = Client(BODY)
    serving = asyncio.create_task(scopes(scope("/v1/chat/completions"), client.receive, client.send))
    await until(lambda: app.tickets)
    (ticket,) = app.tickets
    assert ticket.cut is not None
    ticket.cut(Cancelled("not wanted"))
    ticket.cut(Cancelled("twice"))
    async with asyncio.timeout(10):
        await serving
    assert ended == [(ticket, False)]
    assert client.status == 499
    assert b"not wanted" in b"".join(message.get("body", b"") for message in client.answer)


async def test_work_that_ends_by_itself_while_it_is_cut(app: App, scopes: RequestScopes) -> None:
    app.release = asyncio.Event()
    client = Client(BODY)
    serving = asyncio.create_task(scopes(scope("/v1/chat/completions"), client.receive, client.send))
    await until(lambda: app.tickets)
    assert app.tickets[0].cut is not None
    app.tickets[0].cut(Cancelled("not wanted"))
    app.release.set()
    async with asyncio.timeout(10):
        await serving
    sent = client.answer
    assert sum(message["type"] == "http.response.start" for message in sent) == 1
    assert not sent[-1]["more_body"]


async def test_a_client_that_leaves_while_it_sends(app: App, scopes: RequestScopes) -> None:
    client = Client(BODY[:9], whole=False)
    client.left.set()
    await scopes(scope("/v1/chat/completions"), client.receive, client.send)
    assert app.bodies == [b""]


async def test_other_requests_have_no_scope(app: App, scopes: RequestScopes) -> None:
    client = Client(b"")
    await scopes(scope("/v1/models", method="GET"), client.receive, client.send)
    assert app.tickets == []
    assert client.status == 200
