"""The whole life of the embedded server: start, run until a signal, stop in order."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path

from router.config import Config
from router.supervisor.engines import running_engines, stop_engines
from router.supervisor.failures import StartRefused
from router.supervisor.master_key import MasterKey
from router.supervisor.parts import Listening, health, parts
from router.supervisor.running_server import RunningServer
from router.supervisor.state_directory import StateDirectory
from router.supervisor.supervision import Observer, Supervision

#: How long (s) a router that is up may take until it acts: an earlier one's lock may have to run out first.
_ACTING_LIMIT = 15.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to run."""

    config_file: Path
    config: Config
    listening: Listening
    state: StateDirectory
    key: MasterKey


class Signals:
    """The first signal asks for the end; a second SIGINT or SIGTERM hurries it."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """While inside, signals set these events instead of ending the process."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self._note, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _note(self, number: signal.Signals) -> None:
        if not self.stop.is_set():
            self.stop.set()
        elif number is not signal.SIGHUP:  # a terminal that closes sends more than one
            self.hurry.set()


class EmbeddedServer:
    """Runs `plan`. on_ready is called once, when requests can be made."""

    def __init__(self, plan: Plan, observer: Observer, on_ready: Callable[[], None]) -> None:
        self._plan = plan
        self._observer = observer
        self._on_ready = on_ready
        self._supervision = Supervision(parts(plan.config_file, plan.listening, plan.state, plan.key), observer)

    async def run(self) -> int:
        """Until a signal; the exit code: 1 when something would not end. Raises PartFailed after stopping the rest."""
        signals = Signals()
        key_file = self._plan.key.file
        note = RunningServer(self._plan.listening.url, str(key_file) if key_file else None, os.getpid())
        with signals.heard():
            try:
                if await _unless(signals.stop, self._start()):
                    note.publish()
                    self._on_ready()
                    await _unless(signals.stop, self._supervision.keep())
            finally:
                note.withdraw()
                faults = await self._stop(signals)
        return 1 if faults else 0

    async def _start(self) -> None:
        await self._supervision.start()
        said: dict[str, str] | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ACTING_LIMIT):
                while True:
                    said = await health(f"{self._plan.listening.url}/healthz") or said
                    if said and said.get("router") == "acting" and said.get("runtime") == "up":
                        return
                    await asyncio.sleep(0.1)
        said = said or {}
        self._observer.tell(
            f"No model can be woken yet: the router is {said.get('router', 'not asked')}, "
            f"the {self._plan.config.settings.runtime} runtime says: {said.get('runtime', 'nothing')}"
        )

    async def _stop(self, signals: Signals) -> list[str]:
        """In an order in which nobody misses what is gone already. Returns what would not end."""
        async with _meanwhile(signals.hurry, self._supervision.kill):
            for name in ("gateway", "router"):
                await self._supervision.stop(name)
            config, directory = self._plan.config, self._plan.state.path
            engines = await running_engines(config, directory)
            if engines:
                label = "engines" if len(engines) > 1 else "engine"
                self._observer.begin(label, f"stopping ({', '.join(engines)})")
            faults = await stop_engines(config, directory, signals.hurry)
            if engines:
                self._observer.finish(label, "; ".join(faults) or "stopped")
            await self._supervision.stop("redis")
        return faults


def require_free(listening: Listening) -> None:
    """Raises StartRefused when the gateway could not listen there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            listening.host, listening.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartRefused(
                f"Port {listening.port} on {listening.host} is in use by another program. "
                f"Stop it, or choose another port with --port."
            ) from error
        raise StartRefused(f"{listening.address} cannot be listened on: {error.strerror}.") from error


async def _unless(event: asyncio.Event, work: Coroutine[object, object, None]) -> bool:
    """Do `work` until it is done (True) or `event` is set (False, it is cancelled). Raises what the work raises."""
    doing = asyncio.ensure_future(work)
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if event.is_set() or not doing.done():
            return False
        doing.result()
        return True
    finally:
        for task in (doing, waiting):
            task.cancel()
        await asyncio.gather(doing, waiting, return_exceptions=True)


@contextlib.asynccontextmanager
async def _meanwhile(event: asyncio.Event, action: Callable[[], None]) -> AsyncIterator[None]:
    """Call `action` when `event` is set while the body runs."""

    async def act() -> None:
        await event.wait()
        action()

    task = asyncio.create_task(act())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
