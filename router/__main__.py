"""The router process: `python -m router`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path

import uvicorn
from tenacity import RetryCallState, retry, retry_if_exception_type, wait_fixed

from router import config as configuration
from router import logs
from router.api.access import Services
from router.api.app import create_app
from router.config import Config
from router.controller import Controller
from router.environment import Address, Environment
from router.errors import ConfigError, StoreUnavailable
from router.memory.engine_memory import EngineMemory
from router.memory.gauge import MemoryGauge, open_gauges
from router.memory.page_cache import PageCache
from router.readiness import HttpProbe
from router.runtimes.base import Runtime
from router.runtimes.docker import DockerRuntime
from router.runtimes.process import ProcessRuntime
from router.store.fleet import FleetStore

log = logging.getLogger("router")


async def serve(environment: Environment, config: Config, gauge: MemoryGauge) -> None:
    """Run the router until SIGTERM or SIGINT. The engines go on running."""
    store = FleetStore(environment.redis_url)
    probe = HttpProbe()
    runtime: Runtime = (
        DockerRuntime(config.models)
        if config.settings.runtime == "docker"
        else ProcessRuntime(config.models, environment.state_dir)
    )
    settings = config.settings
    page_cache = PageCache(Path(settings.page_cache.socket)) if settings.page_cache.drop_before_start else None
    memory = EngineMemory(gauge, settings.memory_timeout, page_cache)
    controller = Controller(config, store, runtime, probe, memory)
    await share_token(store)
    server = _Server(create_app(Services(config, store, controller, runtime, gauge)), environment.listen)
    acting = asyncio.create_task(controller.run(), name="controller")
    serving = asyncio.create_task(server.serve(), name="api")
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    stopped = asyncio.create_task(stopping.wait(), name="stop-signal")
    try:
        await asyncio.wait({acting, serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if acting.done():
            acting.result()  # a controller that ends by itself has failed: say why and let the supervisor start anew
    finally:
        server.should_exit = True
        acting.cancel()
        stopped.cancel()
        await asyncio.gather(acting, serving, stopped, return_exceptions=True)
        await runtime.close()
        await probe.close()
        with contextlib.suppress(StoreUnavailable):
            await store.close()


def _log_first_failure(state: RetryCallState) -> None:
    if state.attempt_number == 1 and state.outcome is not None:
        log.warning("waiting for Redis: %s", state.outcome.exception())


@retry(retry=retry_if_exception_type(StoreUnavailable), wait=wait_fixed(0.3), before_sleep=_log_first_failure)
async def share_token(store: FleetStore) -> None:
    """Return when Redis answers, however long that takes; gateways can call this router from then on."""
    await store.api_token()


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the router's order of shutdown is its own."""

    def __init__(self, app: object, listen: Address) -> None:
        super().__init__(
            uvicorn.Config(
                app,  # type: ignore[arg-type]
                host=listen.host,
                port=listen.port,
                uds=listen.uds,
                log_level="warning",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=2,
                lifespan="off",
            )
        )

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


def main() -> int:
    """Exit code 2 when the configuration cannot be used."""
    try:
        environment = Environment.read(default_listen="127.0.0.1:8010")
        logs.configure(environment.log_format, environment.log_level)
        for chatty in ("httpx", "httpcore", "docker", "urllib3", "asyncio"):  # they would log every probe
            logging.getLogger(chatty).setLevel(logging.WARNING)
        config = configuration.load(environment.config)
        gauge = open_gauges(config.settings.gpus)
        for fault in config.oversized.values():
            log.warning("%s; requests for it are refused", fault)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    asyncio.run(serve(environment, config, gauge))
    return 0


if __name__ == "__main__":
    sys.exit(main())
