"""The server's lifecycle API as the commands use it: where it is, which key opens it, and its faults in one line."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from router.api.key_views import KeysView, NewSecretView
from router.api.protocol import KEYS_PATH
from router.api.views import ActionView, CatalogueView, ModelsView, ModelView, RequestsView
from router.errors import HearthError
from router.supervisor import master_key, running_server
from router.supervisor.failures import StartRefused

View = TypeVar("View", bound=BaseModel)

#: What httpx takes as a query's value.
_Value = str | int | float | bool | None

DEFAULT_URL = "http://127.0.0.1:8009"
_LIMITS = httpx.Timeout(15.0, connect=3.0)
#: An event stream says something at least every ten seconds or so.
_EVENT_LIMITS = httpx.Timeout(45.0, connect=3.0)


class ServerError(HearthError):
    """The server did not do what was asked; the message is one line for people."""


class NotServedHere(ServerError):
    """This server is configured not to do it; the commands' exit code is 2."""


@dataclass(frozen=True, slots=True)
class Access:
    """url: without a slash at its end. key_origin: where the key was found, for people."""

    url: str
    key: str | None = field(repr=False)
    key_origin: str


class Event(BaseModel):
    """One line of the events: at in unix seconds; the other fields depend on the kind."""

    model_config = {"extra": "allow"}

    id: str = ""
    event: str
    model: str = ""
    at: float
    detail: str = ""


class _Row(BaseModel):
    id: str


class _Listed(BaseModel):
    """OpenAI's list of models."""

    data: list[_Row]


def find_access(url: str | None, environment: Mapping[str, str] = os.environ) -> Access:
    """url: what the user named, if anything. A key file is only used for the server that it belongs to.
    Raises ServerError when the key file cannot be used."""
    running = running_server.find()
    where = (url or (running.url if running else DEFAULT_URL)).rstrip("/")
    if not where.startswith(("http://", "https://")):
        where = f"http://{where}"
    for variable in ("HEARTH_API_KEY", master_key.VARIABLE):
        if environment.get(variable):
            return Access(where, environment[variable], variable)
    if running and running.key_file and running.url == where:
        try:
            return Access(where, master_key.read(Path(running.key_file)), running.key_file)
        except (OSError, StartRefused) as error:
            raise ServerError(f"The server's key cannot be read: {error}") from error
    return Access(where, None, "")


class Server:
    """One connection to the API; use it with `async with`. Every method raises ServerError."""

    def __init__(self, access: Access) -> None:
        self._access = access
        headers = {"Authorization": f"Bearer {access.key}"} if access.key else {}
        try:
            self._client = httpx.AsyncClient(base_url=access.url, headers=headers, timeout=_LIMITS, trust_env=False)
        except (httpx.InvalidURL, ValueError) as error:
            raise ServerError(f"{access.url} cannot be used: {error}") from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def models(self) -> ModelsView:
        return _parse(ModelsView, await self._call("GET", "/lifecycle/models"))

    async def catalogue(self) -> CatalogueView:
        return _parse(CatalogueView, await self._call("GET", "/lifecycle/catalogue"))

    async def allowed(self) -> list[str]:
        """The names that the key may use, in the server's order."""
        return [row.id for row in _parse(_Listed, await self._call("GET", "/v1/models")).data]

    async def model(self, name: str) -> ModelView:
        """One model; an unknown one is an error that names those that there are."""
        known = {view.name: view for view in (await self.models()).models}
        if name not in known:
            raise ServerError(f"No model {name!r} is served; there are: {', '.join(known) or 'none'}.")
        return known[name]

    async def requests(self) -> RequestsView:
        return _parse(RequestsView, await self._call("GET", "/lifecycle/requests"))

    async def act(self, name: str, action: str, *, force: bool = False) -> ActionView:
        path = f"/lifecycle/models/{quote(name, safe='')}/{action}"
        return _parse(ActionView, await self._call("POST", path, {"force": "true"} if force else {}))

    async def keys(self, name: str | None = None) -> KeysView:
        """All keys, or one of them."""
        return _parse(KeysView, await self._call("GET", _key_path(name)))

    async def own_key(self) -> KeysView:
        """The key that asks."""
        return _parse(KeysView, await self._call("GET", KEYS_PATH))

    async def create_key(self, parameters: Sequence[tuple[str, str]]) -> NewSecretView:
        return _parse(NewSecretView, await self._call("POST", _key_path(), parameters))

    async def rotate_key(self, name: str, grace: float) -> NewSecretView:
        return _parse(NewSecretView, await self._call("POST", f"{_key_path(name)}/rotate", {"grace": str(grace)}))

    async def revoke_key(self, name: str) -> None:
        await self._call("DELETE", _key_path(name))

    async def block_key(self, name: str, *, blocked: bool) -> None:
        await self._call("POST", f"{_key_path(name)}/{'block' if blocked else 'unblock'}")

    async def logs(self, name: str, lines: int) -> str:
        answer = await self._call("GET", f"/lifecycle/models/{quote(name, safe='')}/logs", {"lines": str(lines)})
        return answer.text

    async def events(self, *, recent: int, follow: bool) -> AsyncIterator[Event]:
        """The last `recent` events, then with `follow` what happens, until the server ends the stream."""
        parameters = {"recent": str(recent), "follow": str(follow).lower()}
        async with self._stream("/lifecycle/events", parameters, _EVENT_LIMITS) as answer:
            async for event in parse_events(answer.aiter_lines()):
                yield event

    async def history(self, seconds: float | None) -> AsyncIterator[str]:
        """The lines of the requests that ended in the last `seconds`; None: of all that are remembered."""
        parameters = {} if seconds is None else {"seconds": str(seconds)}
        async with self._stream("/lifecycle/history", parameters) as answer:
            async for line in answer.aiter_lines():
                yield line

    @asynccontextmanager
    async def _stream(
        self, path: str, parameters: Mapping[str, str], limits: httpx.Timeout = _LIMITS
    ) -> AsyncIterator[httpx.Response]:
        request = self._client.build_request("GET", path, params=dict(parameters), timeout=limits)
        try:
            answer = await self._client.send(request, stream=True)
            try:
                if answer.is_error:
                    await answer.aread()
                    self._require_success(answer)
                yield answer
            finally:
                await answer.aclose()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    async def _call(
        self, method: str, path: str, parameters: Mapping[str, str] | Sequence[tuple[str, str]] = ()
    ) -> httpx.Response:
        given: list[tuple[str, _Value]] = [*(parameters.items() if isinstance(parameters, Mapping) else parameters)]
        try:
            answer = await self._client.request(method, path, params=given or None)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        self._require_success(answer)
        return answer

    def _unreachable(self, error: httpx.HTTPError) -> ServerError:
        if isinstance(error, httpx.ConnectError):
            return ServerError(
                f"No server at {self._access.url}. Start one with `hearth up`, or name it with --url or HEARTH_URL."
            )
        what = "does not answer in time" if isinstance(error, httpx.TimeoutException) else "broke off"
        return ServerError(f"The server at {self._access.url} {what}: {error or type(error).__name__}")

    def _require_success(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        said = explain(answer)
        match answer.status_code:
            case 401 if self._access.key is None:
                raise ServerError("The server asks for a key: set HEARTH_API_KEY.")
            case 401:
                raise ServerError(f"The server does not accept the key from {self._access.key_origin}.")
            case 403:
                raise ServerError(f"Not allowed with the key from {self._access.key_origin}: {said}")
            case 404 | 409:
                raise ServerError(said)
            case 501:
                raise NotServedHere(said)
            case 503:
                raise ServerError(f"Not available now: {said}")
            case status:
                raise ServerError(f"The server answered {status}: {said}")


async def parse_events(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    """Server-sent events, an event for each frame that has data; comments are left out. Raises ServerError."""
    event_id, data = "", list[str]()
    async for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            event_id = value
        elif name == "data":
            data.append(value)
        elif not line and data:
            try:
                yield Event.model_validate({"id": event_id} | json.loads("\n".join(data)))
            except (ValueError, TypeError) as error:
                raise ServerError("The server sent an event that cannot be read; is it another version?") from error
            event_id, data = "", []


def explain(answer: httpx.Response) -> str:
    """What an error's body says, in one line: ours has `detail`, a list of faults if it is about what was asked,
    LiteLLM's `error.message`."""
    try:
        body: Any = answer.json()
        said = body.get("detail") or body["error"]["message"]
        if isinstance(said, list):
            said = "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in said)
    except (ValueError, AttributeError, LookupError, TypeError):
        said = answer.text or answer.reason_phrase
    return " ".join(str(said).split())[:500]


def _key_path(name: str | None = None) -> str:
    return f"{KEYS_PATH}s" if name is None else f"{KEYS_PATH}s/{quote(name, safe='')}"


def _parse(view: type[View], answer: httpx.Response) -> View:
    try:
        return view.model_validate_json(answer.content)
    except ValidationError as error:
        raise ServerError("The server's answer cannot be read; is it Hearth, and of this version?") from error
