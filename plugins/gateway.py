"""The gateway process: LiteLLM's own ASGI app with the lifecycle around it. Run it with `python -m plugins.gateway`."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import uvicorn

from plugins import tracing
from router import config as configuration
from router import logs
from router.config import Config
from router.environment import Environment
from router.errors import ConfigError
from router.store.admission import Admission
from router.store.known_keys import KnownKeys

log = logging.getLogger("gateway")

#: Seconds that running answers get when the gateway is told to stop.
SHUTDOWN_GRACE = 8


def prepare_environment(environment: Environment) -> bool:
    """What LiteLLM reads when it is imported. Must be called before that. Returns whether there will be traces."""
    os.environ["CONFIG_FILE_PATH"] = str(environment.config.resolve())
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # no download of price lists at every start
    os.environ.setdefault("LITELLM_LOCAL_BLOG_POSTS", "True")  # nor of news, by whoever opens the admin UI
    # it would ask for a Redis of its own, to agree with other processes; we are one
    os.environ.setdefault("LITELLM_DISABLE_NO_REDIS_WARNING", "True")
    os.environ.setdefault("LITELLM_LOG", "WARNING")
    return tracing.prepare(os.environ)


class Gateway:
    """The ASGI application: our routes, then LiteLLM inside the request scopes. Owns the admission and the
    known keys."""

    def __init__(self, config: Config, environment: Environment, handler: logging.Handler) -> None:
        from litellm.proxy.proxy_server import app as litellm_app, proxy_config  # noqa: I001

        from plugins import logs as request_logs
        from plugins.litellm_settings import with_defaults
        from plugins.request_scope import RequestScopes
        from plugins.router_proxy import create_router_proxy

        settings = config.settings
        self._config = config
        self._discretion = request_logs.Discretion()
        handler.addFilter(request_logs.RequestFields())
        handler.addFilter(self._discretion)
        request_logs.calm_litellm()
        self._litellm = litellm_app
        self._admission = Admission(environment.redis_url)
        self._keys = KnownKeys(environment.redis_url)
        self.closing = asyncio.Event()
        self._ours = create_router_proxy(self._admission, environment.router_url, self.closing)
        self._scopes = RequestScopes(
            litellm_app,
            self._admission,
            max_body=settings.max_body,
            keepalive_interval=settings.keepalive_interval,
        )
        proxy_config.get_config = with_defaults(proxy_config.get_config)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] == "http" and _is_ours(scope["path"]):
            await self._ours(scope, receive, send)
        else:
            await self._scopes(scope, receive, send)

    async def _lifespan(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        from plugins.key_auth import ring_rules
        from plugins.litellm_settings import install
        from plugins.logs import calm_litellm

        async def send_when_installed(message: Any) -> None:
            if message["type"] == "lifespan.startup.complete":
                install(self._config, self._keys)
                calm_litellm()  # again: its configuration may have said otherwise
                self._discretion.serving = True
                await self._admission.start()
                if ring_rules():
                    await self._keys.start()
            elif message["type"].startswith("lifespan.shutdown."):
                try:
                    await self._keys.close()
                finally:
                    await self._admission.close()  # once the server has heard this message, it waits for nobody
            await send(message)

        await self._litellm(scope, receive, send_when_installed)


def _is_ours(path: str) -> bool:
    return path in ("/healthz", "/metrics", "/lifecycle") or path.startswith("/lifecycle/")


class _Server(uvicorn.Server):
    """uvicorn, which waits for open answers when it is told to stop; the endless ones have to hear of it."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        gateway: Gateway = self.config.app  # type: ignore[assignment] # ours is the only one it serves
        gateway.closing.set()
        super().handle_exit(sig, frame)


def main() -> int:
    """Exit code 2 when the configuration cannot be used."""
    try:
        environment = Environment.read(default_listen="127.0.0.1:8009")
        # LiteLLM's loggers take the root's level, and would write a line for each request at INFO.
        handler = logs.configure(environment.log_format, logging.WARNING)
        for ours in ("gateway", "plugins", "router"):
            logging.getLogger(ours).setLevel(environment.log_level)
        config = configuration.load(environment.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    traced = prepare_environment(environment)
    logs.capture_prints()
    # a crash in native code (JSON, TLS, the event loop) leaves a stack in the log
    faulthandler.enable(sys.__stderr__ or sys.stderr)
    if traced:
        from plugins import trace_export

        trace_export.install()
    gateway = Gateway(config, environment, handler)
    server = _Server(
        uvicorn.Config(
            gateway,
            host=environment.listen.host,
            port=environment.listen.port,
            uds=environment.listen.uds,
            log_level="warning",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=SHUTDOWN_GRACE,
            lifespan="on",
        )
    )
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
