"""What a test sees of a running stack, and what it asks of it: phases, requests, engines, events."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

import httpx
import openai
import redis.asyncio
from stack import LIMIT, MASTER_KEY, Stack

from router.store import keys

HI = [{"role": "user", "content": "hi there"}]
_PAUSE = 0.02


async def until(condition: Callable[[], Awaitable[object]], what: str, limit: float = LIMIT) -> None:
    """Wait until the condition holds. Raises AssertionError after `limit` seconds."""
    end = asyncio.get_running_loop().time() + limit
    while not await condition():
        assert asyncio.get_running_loop().time() < end, f"not within {limit:.0f} s: {what}"
        await asyncio.sleep(_PAUSE)


def bearer(key: str) -> dict[str, str]:
    """The header that shows a key."""
    return {"Authorization": f"Bearer {key}"}


class Engine:
    """One model's engine simulator, asked directly."""

    def __init__(self, port: int) -> None:
        base = f"http://127.0.0.1:{port}"
        self.http = httpx.AsyncClient(base_url=base, timeout=LIMIT, trust_env=False, verify=False)

    async def requests(self) -> list[dict[str, Any]]:
        """Every inference request it has seen since its start, oldest first."""
        found: list[dict[str, Any]] = (await self.http.get("/_simulator/requests")).json()["requests"]
        return found

    async def running(self) -> int:
        """How many requests it computes now; 0 when it is not there."""
        try:
            return int((await self.http.get("/_simulator/state")).json()["running"])
        except httpx.TransportError:
            return 0

    async def faults(self, *specs: str) -> None:
        """Put these faults in force, and no others."""
        (await self.http.put("/_simulator/faults", json={"faults": specs})).raise_for_status()

    async def clear_faults(self) -> None:
        with contextlib.suppress(httpx.TransportError):
            await self.faults()


class Observer:
    """Clients for the gateway, the router's socket, Redis and the engines of one stack, for one test.

    Phases and requests are read from the router itself: the answer is the one that the gateway would pass on, and the
    gateway's one process is left to the test's own traffic.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.http = httpx.AsyncClient(
            base_url=stack.url,
            headers=bearer(MASTER_KEY),
            timeout=LIMIT,
            trust_env=False,
            verify=False,
            limits=httpx.Limits(max_connections=None),
        )
        self.router = httpx.AsyncClient(
            base_url="http://router",
            transport=httpx.AsyncHTTPTransport(uds=f"{stack.directory}/router.sock", verify=False),
            timeout=LIMIT,
        )
        self.redis = redis.asyncio.Redis(unix_socket_path=str(stack.redis_socket), decode_responses=True)
        self.engines = {name: Engine(port) for name, port in stack.ports.items()}

    @contextlib.asynccontextmanager
    async def sdk(self, key: str) -> AsyncIterator[openai.AsyncOpenAI]:
        """OpenAI's own SDK with this key."""
        async with (
            httpx.AsyncClient(trust_env=False, timeout=LIMIT) as http,
            openai.AsyncOpenAI(base_url=f"{self.stack.url}/v1", api_key=key, http_client=http, max_retries=0) as sdk,
        ):
            yield sdk

    async def __aenter__(self) -> Self:
        await self.refresh_token()
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in (self.http, self.router, *(engine.http for engine in self.engines.values())):
            await client.aclose()
        await self.redis.aclose()

    async def refresh_token(self) -> None:
        """Redis has lost its data: the router has a new token."""
        token = str(await self.redis.get(keys.API_TOKEN) or "")
        self.router.headers.update({"X-Hearth-Token": token, "X-Hearth-Role": "admin"})

    async def until_recovered(self) -> None:
        """Redis is back, perhaps without its data: until the router has taken everything up again."""

        async def locked() -> bool:
            try:
                return bool(await self.redis.exists(f"{keys.PREFIX}gpu:lock"))
            except redis.exceptions.ConnectionError:
                return False

        await until(locked, "a router acts on this Redis")
        self.stack.until_up()
        await self.refresh_token()

    # --- seeing

    async def models(self) -> dict[str, dict[str, Any]]:
        return {model["name"]: model for model in (await self._read("/lifecycle/models"))["models"]}

    async def model(self, name: str) -> dict[str, Any]:
        return (await self.models())[name]

    async def phases(self) -> dict[str, str]:
        return {name: model["phase"] for name, model in (await self.models()).items()}

    async def requests(self) -> list[dict[str, Any]]:
        """Leases and the line, as the API shows them."""
        found: list[dict[str, Any]] = (await self._read("/lifecycle/requests"))["requests"]
        return found

    async def _read(self, path: str) -> dict[str, Any]:
        """What the router says. While a busy machine keeps its Redis from answering in time, it is asked again."""
        found: dict[str, Any] = {}

        async def answered() -> bool:
            answer = await self.router.get(path)
            if answer.status_code == 503:
                return False
            answer.raise_for_status()
            found.update(answer.json())
            return True

        await until(answered, f"{path} is answered")
        return found

    async def until_phase(self, name: str, *phases: str, limit: float = LIMIT) -> None:
        async def reached() -> bool:
            return (await self.phases())[name] in phases

        await until(reached, f"{name} is {' or '.join(phases)}", limit)

    async def until_waiting(self, count: int) -> None:
        async def reached() -> bool:
            return sum(request["state"] == "waiting" for request in await self.requests()) == count

        await until(reached, f"{count} requests wait")

    async def until_running(self, name: str, count: int) -> None:
        """Until the engine computes that many requests."""

        async def reached() -> bool:
            return await self.engines[name].running() == count

        await until(reached, f"{name} computes {count} requests")

    async def until_no_requests(self) -> None:
        """No lease, nobody in line, nothing that an engine computes."""

        async def reached() -> bool:
            if await self.requests():
                return False
            return not sum([await self.engines[name].running() for name in await self.awake()])

        try:
            await until(reached, "all requests are over")
        except AssertionError as error:
            raise AssertionError(f"{error}: {await self.requests()}") from None

    async def awake(self) -> list[str]:
        return [name for name, phase in (await self.phases()).items() if phase in ("ready", "draining")]

    @contextlib.asynccontextmanager
    async def event_log(self) -> AsyncIterator[list[dict[str, Any]]]:
        """A list to which every event is added as it happens, read from the API's stream through the gateway."""
        seen: list[dict[str, Any]] = []
        path, listening = "/lifecycle/events?recent=1", asyncio.Event()
        async with self.http.stream("GET", path, timeout=None) as stream:
            assert stream.status_code == 200

            async def read() -> None:
                first = True
                async for line in stream.aiter_lines():
                    if line.startswith("data: "):
                        if not first:
                            seen.append(json.loads(line.removeprefix("data: ")))
                        first = False
                        listening.set()

            task = asyncio.create_task(read())
            try:
                async with asyncio.timeout(LIMIT):
                    await listening.wait()
                yield seen
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    # --- asking

    @contextlib.asynccontextmanager
    async def asking(self, request: httpx.Request) -> AsyncIterator[asyncio.Task[httpx.Response]]:
        """A request under way; its client leaves at the end of the block, if it has not been answered by then."""
        task = asyncio.create_task(self._whole(request))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _whole(self, request: httpx.Request) -> httpx.Response:
        answer = await self.http.send(request, stream=True)
        try:
            await answer.aread()
        finally:
            await answer.aclose()
        return answer

    async def act(self, name: str, action: str, **query: Any) -> httpx.Response:
        """An action through the gateway, as the administrator."""
        return await self.http.post(f"/lifecycle/models/{name}/{action}", params=query)

    async def sleep(self, name: str) -> None:
        """Bring the model to sleep, whatever runs on it. A failed model is taken as asleep only once it may start."""
        if (await self.model(name))["phase"] == "failed":
            await self.wake(name)
        if (await self.model(name))["phase"] != "asleep":
            assert (await self.act(name, "sleep", force=True)).status_code == 200
            await self.until_phase(name, "asleep")

    async def wake(self, name: str) -> None:
        """Have the model awake."""
        if (await self.model(name))["phase"] != "ready":
            assert (await self.act(name, "wake")).status_code == 200
            await self.until_phase(name, "ready")

    async def chat(self, model: str, *, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
        """One whole chat completion."""
        given = {"model": model, "messages": HI, **body}
        return await self.http.post("/v1/chat/completions", json=given, headers=headers)

    def stream(
        self, model: str, *, headers: dict[str, str] | None = None, **body: Any
    ) -> contextlib.AbstractAsyncContextManager[httpx.Response]:
        """A streamed chat completion, to be entered."""
        given = {"model": model, "messages": HI, "stream": True, **body}
        return self.http.stream("POST", "/v1/chat/completions", json=given, headers=headers)


async def first_line(stream: httpx.Response, prefix: str) -> str:
    """The next line of a stream that begins with `prefix`; the rest can be read afterwards with `lines`."""
    async for line in lines(stream):
        if line.startswith(prefix):
            return line
    raise AssertionError(f"the stream ended without a line that begins with {prefix!r}")


async def lines(stream: httpx.Response) -> AsyncIterator[str]:
    """The stream's remaining lines. Unlike httpx's own iterator it can be left and taken up again."""
    state = stream.extensions.setdefault("reading", {"chunks": stream.aiter_bytes(), "rest": b""})
    while True:
        head, newline, tail = state["rest"].partition(b"\n")
        if newline:
            state["rest"] = tail
            yield head.decode()
            continue
        try:
            state["rest"] += await anext(state["chunks"])
        except StopAsyncIteration:
            return


async def deltas(stream: httpx.Response) -> list[dict[str, Any]]:
    """The data events that are left in a stream, without [DONE]."""
    found = [line.removeprefix("data: ") async for line in lines(stream) if line.startswith("data: ")]
    return [json.loads(data) for data in found if data != "[DONE]"]
