"""Engines as Docker containers. What happens to them is read from Docker's event stream, not by polling.

Only containers that the configuration names are touched, by exactly these calls: inspect, start, stop, logs, events.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, TypeVar

import docker
import requests.exceptions
from docker.errors import APIError, DockerException, NotFound
from docker.utils import kwargs_from_env

from router.config import ModelSpec
from router.errors import EngineMissing, EngineStartFailed, EngineStopFailed, RuntimeUnavailable
from router.runtimes.base import Exited, Instance, Lost, Regained, RuntimeEvent, Started

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds: an answer that only reads must come well within the 2 s in which a client hears that Docker is away.
_READ_LIMIT = 1.2
#: Seconds that Docker gets to start a container, and to stop one beyond what the engine gets by its stop_timeout.
_START_LIMIT = 60.0
_STOP_MARGIN = 15.0
#: Seconds between two tries to reach Docker.
_RECONNECT_PAUSE = 0.5
#: Signs of life: an event stream can be silent for hours, so the engine itself is asked this often (s).
_PING_INTERVAL = 1.0


class DockerRuntime:
    """Runs each model's `container`, which must exist. The address comes from DOCKER_HOST or is Docker's default."""

    def __init__(self, specs: dict[str, ModelSpec]) -> None:
        self._models = {spec.container: spec.name for spec in specs.values() if spec.container}
        self._questions = ThreadPoolExecutor(max_workers=8, thread_name_prefix="docker")
        # one for each container, so that many long stops keep nobody waiting
        self._acts = ThreadPoolExecutor(max_workers=max(1, len(self._models)), thread_name_prefix="docker-act")
        self._clients: list[docker.APIClient] = []
        self._local = threading.local()

    async def start(self, spec: ModelSpec) -> None:
        try:
            await self._act(_START_LIMIT, lambda client: client.start(_container(spec)))
        except APIError as error:
            raise EngineStartFailed(f"Docker did not start container {spec.container}: {error.explanation}") from error

    async def stop(self, spec: ModelSpec) -> None:
        grace = max(1, round(spec.stop_timeout))
        try:
            await self._act(grace + _STOP_MARGIN, lambda client: client.stop(_container(spec), timeout=grace))
        except APIError as error:
            raise EngineStopFailed(f"Docker did not stop container {spec.container}: {error.explanation}") from error
        if (await self.inspect(spec)).running:
            raise EngineStopFailed(f"container {spec.container} still runs after its stop")

    async def inspect(self, spec: ModelSpec) -> Instance:
        state = (await self._ask(lambda client: client.inspect_container(_container(spec))))["State"]
        running = bool(state["Running"])
        return Instance(
            running=running,
            exit_code=None if running else int(state["ExitCode"]),
            out_of_memory=bool(state.get("OOMKilled")),
            started_at=_unix_time(state["StartedAt"]),
        )

    async def logs(self, spec: ModelSpec, lines: int) -> tuple[str, ...]:
        text: bytes = await self._ask(lambda client: client.logs(_container(spec), tail=lines))
        return tuple(text.decode("utf-8", errors="replace").splitlines()[-lines:])

    async def watch(self) -> AsyncIterator[RuntimeEvent]:
        told = False  # whether the consumer has heard that Docker is away
        while True:
            events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
            try:
                client, stream = await self._ask(self._subscribe)
            except RuntimeUnavailable as error:
                if not told:
                    yield Lost(str(error))
                    told = True
                await asyncio.sleep(_RECONNECT_PAUSE)
                continue
            reader = threading.Thread(
                target=_pump, args=(stream, events, asyncio.get_running_loop()), name="docker-events", daemon=True
            )
            reader.start()
            try:
                told = False
                yield Regained()
                async for event in self._events(events):
                    yield event
            finally:
                with contextlib.suppress(Exception):  # it may be broken already, in any way
                    stream.close()
                client.close()

    async def close(self) -> None:
        for client in self._clients:
            client.close()
        for threads in (self._questions, self._acts):
            threads.shutdown(wait=False, cancel_futures=True)

    # --- calls to Docker

    async def _events(self, events: asyncio.Queue[dict[str, Any] | None]) -> AsyncIterator[RuntimeEvent]:
        """Events of our containers until the stream breaks or Docker stops answering."""
        while True:
            try:
                async with asyncio.timeout(_PING_INTERVAL):
                    raw = await events.get()
            except TimeoutError:
                try:
                    await self._ask(lambda client: client.ping())
                except RuntimeUnavailable:
                    return
                continue
            if raw is None:
                return
            attributes = (raw.get("Actor") or {}).get("Attributes") or {}
            model = self._models.get(attributes.get("name", ""))
            if model is None:
                continue
            if raw.get("Action") == "start":
                yield Started(model)
            elif raw.get("Action") == "die":
                code = attributes.get("exitCode")
                yield Exited(model, int(code) if code is not None else None)

    def _subscribe(self, _: docker.APIClient) -> tuple[docker.APIClient, Any]:
        filters = {"type": ["container"], "event": ["start", "die"], "container": list(self._models)}
        endless: Any = None  # the stream may be silent for hours; the types know only numbers
        client = _connect()
        client.timeout = endless
        try:
            return client, client.events(filters=filters, decode=True)
        except BaseException:
            client.close()
            raise

    def _client(self) -> docker.APIClient:
        client: docker.APIClient | None = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = _connect()
            self._clients.append(client)
        return client

    async def _ask(self, function: Callable[[docker.APIClient], T]) -> T:
        return await self._call(self._questions, _READ_LIMIT, function)

    async def _act(self, limit: float, function: Callable[[docker.APIClient], T]) -> T:
        return await self._call(self._acts, limit, function)

    async def _call(self, threads: ThreadPoolExecutor, limit: float, function: Callable[[docker.APIClient], T]) -> T:
        """Run a call in one of these threads. It gets `limit` seconds; then, or when Docker is not there, it is
        RuntimeUnavailable."""

        def run() -> T:
            client: Any = self._client()
            client.timeout = limit
            return function(client)

        try:
            async with asyncio.timeout(limit + 0.2):
                return await asyncio.get_running_loop().run_in_executor(threads, run)
        except NotFound as error:
            raise EngineMissing(f"{error.explanation}; create it first, with: docker compose create NAME") from error
        except APIError:
            raise
        except (DockerException, requests.exceptions.RequestException, OSError, TimeoutError) as error:
            raise RuntimeUnavailable(f"Docker cannot be asked: {_explained(error)}") from error


def _explained(error: Exception) -> str:
    """Why Docker cannot be asked, with what to do where that is known."""
    said = str(error)
    if isinstance(error, TimeoutError | requests.exceptions.Timeout) or "timed out" in said:
        return "it does not answer in time"
    where = os.environ.get("DOCKER_HOST") or "its usual socket, /var/run/docker.sock"
    if "Permission denied" in said:
        return f"this user may not use {where}; run the router in the group that the socket belongs to"
    if "No such file" in said or "Connection refused" in said:
        return f"nothing answers at {where}; start Docker, or set DOCKER_HOST to where it listens"
    return said


def _pump(stream: Any, events: asyncio.Queue[dict[str, Any] | None], loop: asyncio.AbstractEventLoop) -> None:
    """In a thread of its own: the blocking event stream into the queue, None at its end."""
    with contextlib.suppress(Exception):  # however the stream ends, its end is the news
        for event in stream:
            loop.call_soon_threadsafe(events.put_nowait, event)
    with contextlib.suppress(RuntimeError):  # the loop has ended too
        loop.call_soon_threadsafe(events.put_nowait, None)


def _connect() -> docker.APIClient:
    """A client for the engine at DOCKER_HOST, or for the local one. It asks for the engine's version first."""
    limit: Any = _READ_LIMIT  # the types know only whole seconds
    return docker.APIClient(**kwargs_from_env(), timeout=limit)


def _container(spec: ModelSpec) -> str:
    if spec.container is None:
        raise EngineMissing(f"model {spec.name!r} names no container")
    return spec.container


def _unix_time(text: str) -> float | None:
    """Docker's timestamps have nanoseconds; a container that never ran has the year 1."""
    if text.startswith("0001"):
        return None
    seconds, _, rest = text.rstrip("Z").partition(".")
    moment = datetime.fromisoformat(f"{seconds}.{rest[:6] or '0'}+00:00")
    return moment.timestamp()
