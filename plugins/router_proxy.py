"""The router's API for people: /lifecycle and /metrics behind LiteLLM's key check, /healthz open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import httpx
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from litellm.proxy._types import ProxyException, UserAPIKeyAuth
from litellm.proxy.auth.user_api_key_auth import user_api_key_auth
from litellm.proxy.proxy_server import openai_exception_handler
from starlette.background import BackgroundTask

from plugins.key_auth import ring_rules
from plugins.lifecycle import caller_of, is_admin
from router.api.page import page_routes
from router.api.protocol import CALLER_HEADER, KEYS_PATH, ROLE_HEADER, TOKEN_HEADER
from router.errors import StoreUnavailable
from router.store.admission import Admission

#: An event stream may be silent for as long as its keep-alive comments are apart.
_TIMEOUT = httpx.Timeout(10.0, connect=1.0, read=30.0)
#: Seconds that Redis, and then the router, get to answer for /healthz.
_HEALTH_LIMIT = 1.5
_RETURNED = ("content-type", "cache-control", "retry-after")
_OTHER_KEYS = (
    "Keys are not kept by Hearth here: LiteLLM has a database (DATABASE_URL; use /key/generate and its like), or a "
    "custom_auth of its own."
)
_FORWARDED = ("last-event-id", "accept")


def create_router_proxy(admission: Admission, router_url: str, closing: asyncio.Event) -> FastAPI:
    """The ASGI application for these addresses. closing: set when the gateway is told to stop; event streams end."""
    # no traces: probes and event streams would fill them
    app = FastAPI(title="Hearth", docs_url=None, redoc_url=None, openapi_url=None, telemetry={"tracing": False})
    app.add_exception_handler(ProxyException, openai_exception_handler)
    proxy = _RouterProxy(admission, router_client(router_url), closing)
    app.add_api_route("/healthz", proxy.healthz, methods=["GET"])
    app.add_api_route("/metrics", proxy.forward, methods=["GET"])
    app.include_router(page_routes())
    app.add_api_route("/lifecycle/{path:path}", proxy.forward, methods=["GET", "POST", "DELETE"])
    return app


class _RouterProxy:
    """Asks the router for whoever has a valid key, and says who that is."""

    def __init__(self, admission: Admission, client: httpx.AsyncClient, closing: asyncio.Event) -> None:
        self._admission = admission
        self._client = client
        self._closing = closing

    async def forward(self, request: Request, key: Annotated[UserAPIKeyAuth, Depends(user_api_key_auth)]) -> Response:
        """The router's answer as it comes."""
        if request.url.path.startswith(KEYS_PATH) and not ring_rules():
            return JSONResponse({"detail": _OTHER_KEYS}, 501)
        try:
            headers = {
                TOKEN_HEADER: await self._admission.api_token(),
                ROLE_HEADER: "admin" if is_admin(key) else "user",
                CALLER_HEADER: caller_of(key),
                **{name: value for name in _FORWARDED if (value := request.headers.get(name))},
            }
            url = httpx.URL(path=request.url.path, query=request.url.query.encode())
            answer = await self._client.send(
                self._client.build_request(request.method, url, headers=headers), stream=True
            )
        except (StoreUnavailable, httpx.HTTPError) as error:
            return JSONResponse({"detail": f"The router does not answer: {error}"}, 503, {"Retry-After": "2"})
        return StreamingResponse(
            self._body(answer),
            status_code=answer.status_code,
            headers={name: answer.headers[name] for name in _RETURNED if name in answer.headers},
            background=BackgroundTask(answer.aclose),
        )

    async def _body(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        chunks = answer.aiter_raw()
        while (chunk := await _next(chunks, self._closing)) is not None:
            yield chunk

    async def healthz(self) -> JSONResponse:
        """What is up, without a key: 200 when all of it is."""
        parts = {"gateway": "up", "router": "down", "redis": "down", "runtime": "unknown"}
        try:
            async with asyncio.timeout(_HEALTH_LIMIT):
                await self._admission.api_token()
                parts["redis"] = "up"
        except (StoreUnavailable, TimeoutError):
            pass
        try:
            async with asyncio.timeout(_HEALTH_LIMIT):
                said = (await self._client.get("/healthz")).json()
                parts |= {"router": said["router"], "runtime": said["runtime"]}
        except (httpx.HTTPError, TimeoutError, ValueError, KeyError):
            pass
        well = parts["redis"] == "up" and parts["router"] == "acting" and parts["runtime"] == "up"
        return JSONResponse(parts, 200 if well else 503)


async def _next(chunks: AsyncIterator[bytes], closing: asyncio.Event) -> bytes | None:
    """The next chunk; None at the end, or when `closing` is set first."""
    chunk = asyncio.ensure_future(anext(chunks, None))
    closed = asyncio.ensure_future(closing.wait())
    try:
        await asyncio.wait({chunk, closed}, return_when=asyncio.FIRST_COMPLETED)
        return chunk.result() if chunk.done() else None
    finally:
        for task in (chunk, closed):
            task.cancel()
        await asyncio.gather(chunk, closed, return_exceptions=True)


def router_client(router_url: str) -> httpx.AsyncClient:
    """A client for `http://HOST:PORT` or `unix:///PATH`."""
    if router_url.startswith("unix://"):
        transport = httpx.AsyncHTTPTransport(uds=router_url.removeprefix("unix://"))
        return httpx.AsyncClient(transport=transport, base_url="http://router", timeout=_TIMEOUT, trust_env=False)
    return httpx.AsyncClient(base_url=router_url, timeout=_TIMEOUT, trust_env=False)
