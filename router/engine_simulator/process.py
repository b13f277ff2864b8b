"""The process around the engine: it loads, listens, and ends, all as slowly or badly as it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from router.engine_simulator import IMPORTED_AT
from router.engine_simulator import faults as fault
from router.engine_simulator.app import create_app
from router.engine_simulator.engine import Engine
from router.engine_simulator.options import Options

log = logging.getLogger("engine")


class _Server(uvicorn.Server):
    """A server that leaves the signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Simulator:
    """One simulated engine process. `run` returns its exit code."""

    def __init__(self, options: Options, *, access_log: bool = True) -> None:
        self._options = options
        self._engine = Engine(options)
        config = uvicorn.Config(create_app(self._engine, self._apply_faults), loop="asyncio", lifespan="off",
                                log_config=None, access_log=access_log, timeout_graceful_shutdown=1)  # fmt: skip
        config.load()
        self._server = _Server(config)
        self._server.lifespan = config.lifespan_class(config)
        self._stop = asyncio.Event()
        self._terminated = False
        self._socket: socket.socket | None = None
        self._socket_port = 0
        self._crash: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Load, serve until a signal or a fault ends it, and shut down."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        self._socket = self._bind()
        ticks: asyncio.Task[None] | None = None
        try:
            if self._options.listen_while_loading:
                await self._listen()
            code = await self._load()
            if code is not None or self._stop.is_set():
                return code or 0
            if not self._options.listen_while_loading:
                await self._listen()
            ticks = asyncio.create_task(self._server.main_loop(), name="server clock")
            self._engine.ready_at = time.time()
            log.info("Application startup complete: %s ready at %.6f, %.3f s after the start, claims %.2f GiB",
                     self._options.model, self._engine.ready_at, time.monotonic() - IMPORTED_AT,
                     self._options.memory / 2**30)  # fmt: skip
            await self._apply_faults()
            await self._stop.wait()
        finally:
            await self._shut_down(ticks)
        return 0

    def _bind(self) -> socket.socket:
        """Take the address. As with vLLM it is taken from the start, while connections are still refused."""
        if self._options.uds:
            taken = socket.socket(socket.AF_UNIX)
            self._remove_unix_socket()
            taken.bind(self._options.uds)
            return taken
        family = socket.AF_INET6 if ":" in self._options.host else socket.AF_INET
        taken = socket.socket(family)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # A port that was chosen by the system is kept when listening is taken up again.
        port = self._socket_port or self._options.port
        taken.bind((self._options.host, port))
        self._socket_port = taken.getsockname()[1]
        return taken

    async def _load(self) -> int | None:
        """Wait out the load; the exit code when a fault ends the process in it."""
        log.info("Starting to load model %s", self._options.model)
        if failure := self._engine.faults.get(fault.ExitWhileLoading):
            await self._stopped_within(failure.seconds)
            if not self._stop.is_set():
                log.error("EngineCore failed to start.")
                log.error("RuntimeError: Engine core initialization failed. See root cause above.")
                return failure.code
        if self._engine.faults.get(fault.NeverReady):
            await self._stop.wait()
        await self._stopped_within(self._options.load_seconds - (time.monotonic() - IMPORTED_AT))
        return None

    async def _stopped_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), max(0.0, seconds))

    async def _listen(self) -> None:
        """Accept connections, unless a fault forbids it."""
        if self._engine.faults.get(fault.RefuseConnections):
            return
        if self._socket is None:
            self._socket = self._bind()
        await self._server.startup(sockets=[self._socket])
        where = self._options.uds or f"http://{self._options.host}:{self._socket_port}"
        log.info("Listening on %s", where)

    async def _apply_faults(self) -> None:
        """Carry out the faults that concern the process and not a request."""
        engine = self._engine
        listening = self._server.started and self._socket is not None
        if engine.faults.get(fault.RefuseConnections):
            if listening and self._socket is not None:
                for listener in self._server.servers:
                    listener.close()
                self._socket.close()
                self._socket = None
        elif not listening and engine.ready_at is not None:
            await self._listen()
        if (crash := engine.faults.get(fault.ExitZeroOnCrash)) and self._crash is None:
            log.error("EngineCore encountered a fatal error.")
            engine.die()
            self._crash = asyncio.create_task(self._end_after(crash.seconds), name="end after the crash")

    async def _end_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._stop.set()

    def _on_signal(self, number: int) -> None:
        if self._engine.faults.get(fault.IgnoreSigterm):
            log.warning("%s ignored", signal.Signals(number).name)
            return
        log.info("[shutdown] %s: stopping the engine", signal.Signals(number).name)
        self._stop.set()

    async def _shut_down(self, ticks: asyncio.Task[None] | None) -> None:
        """End the requests, then the connections, then all else that runs."""
        self._engine.die()
        if self._engine.faults.get(fault.HangOnSigterm):
            self._server.config.timeout_graceful_shutdown = None
        if self._server.started:
            await self._server.shutdown(sockets=[self._socket] if self._socket else [])
        elif self._socket:
            self._socket.close()
        tasks = [task for task in (ticks, self._crash) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._remove_unix_socket()
        log.info("[shutdown] done")

    def _remove_unix_socket(self) -> None:
        if self._options.uds:
            Path(self._options.uds).unlink(missing_ok=True)


def log_like_an_engine() -> None:
    """Write the log to stderr, a line like vLLM's for each record. Nothing that callers sent is ever logged."""
    line = "%(levelname)s %(asctime)s [%(filename)s:%(lineno)d] %(message)s"
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=line, datefmt="%m-%d %H:%M:%S")
    logging.getLogger("asyncio").setLevel(logging.ERROR)


def main(options: Options, *, access_log: bool = True) -> int:
    """Run a simulated engine in this process until it ends; its exit code."""
    log_like_an_engine()

    async def run() -> int:
        return await Simulator(options, access_log=access_log).run()

    return asyncio.run(run())
