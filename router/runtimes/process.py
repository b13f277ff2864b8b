"""Engines as child processes, for a box without Docker.

Each engine leads its own session, so that it outlives the router, and leaves a record (pid and start time) in the state
directory, by which the next router finds it again. A pid alone proves nothing: it may have been given to another program.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from router.config import ModelSpec
from router.errors import EngineMissing, EngineStartFailed, EngineStopFailed
from router.runtimes.base import Exited, Instance, Regained, RuntimeEvent, Started

_KILL_WAIT = 5.0


class ProcessRuntime:
    """Runs each model's `command`. state_dir holds a record and a log for each model."""

    def __init__(self, specs: dict[str, ModelSpec], state_dir: Path) -> None:
        self._specs = specs
        self._dir = state_dir / "engines"
        self._dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._events: asyncio.Queue[RuntimeEvent] = asyncio.Queue()
        self._exits: dict[str, int] = {}
        self._ended: dict[str, asyncio.Event] = {}  # of each engine that runs: set when it has ended
        self._reapers: set[asyncio.Task[None]] = set()
        self._pidfds: set[int] = set()

    async def start(self, spec: ModelSpec) -> None:
        if self._find(spec) is not None:
            return
        if spec.command is None:
            raise EngineMissing(f"model {spec.name!r} has no command")
        _require_free_port(spec)
        self._exits.pop(spec.name, None)
        with self._path(spec, "log").open("wb") as log:
            try:
                child = await asyncio.create_subprocess_exec(
                    *spec.command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **spec.environment},
                    start_new_session=True,
                )
            except OSError as error:
                raise EngineMissing(f"the program of model {spec.name!r} cannot be run: {error}") from error
        with contextlib.suppress(psutil.NoSuchProcess):
            created = psutil.Process(child.pid).create_time()
            self._path(spec, "json").write_text(json.dumps({"pid": child.pid, "created": created}))
        self._events.put_nowait(Started(spec.name))
        self._ended[spec.name] = asyncio.Event()
        reaper = asyncio.create_task(self._reap(spec, child, self._ended[spec.name]), name=f"reap-{spec.name}")
        self._reapers.add(reaper)
        reaper.add_done_callback(self._reapers.discard)

    async def stop(self, spec: ModelSpec) -> None:
        process = self._find(spec)
        if process is None:
            return
        ended = self._ended.get(spec.name) or self._adopt(spec, process.pid)
        for sign, patience in ((signal.SIGTERM, spec.stop_timeout), (signal.SIGKILL, _KILL_WAIT)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            try:
                await asyncio.wait_for(ended.wait(), patience)
            except TimeoutError:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it may have left behind in its session
            return
        raise EngineStopFailed(f"process {process.pid} of model {spec.name!r} does not end")

    async def inspect(self, spec: ModelSpec) -> Instance:
        process = self._find(spec)
        if process is None:
            return Instance(running=False, exit_code=self._exits.get(spec.name))
        if spec.name not in self._ended:
            self._adopt(spec, process.pid)
        return Instance(running=True, started_at=process.create_time())

    async def logs(self, spec: ModelSpec, lines: int) -> tuple[str, ...]:
        try:
            with self._path(spec, "log").open(encoding="utf-8", errors="replace") as log:
                return tuple(line.rstrip("\n") for line in deque(log, maxlen=lines))
        except FileNotFoundError:
            return ()

    async def watch(self) -> AsyncIterator[RuntimeEvent]:
        yield Regained()
        while True:
            yield await self._events.get()

    async def close(self) -> None:
        for reaper in self._reapers:
            reaper.cancel()
        await asyncio.gather(*self._reapers, return_exceptions=True)
        for pidfd in self._pidfds.copy():
            self._forget(pidfd)

    # ---

    def _path(self, spec: ModelSpec, kind: str) -> Path:
        return self._dir / f"{re.sub(r'[^A-Za-z0-9._-]', '_', spec.name)}.{kind}"

    def _find(self, spec: ModelSpec) -> psutil.Process | None:
        """The engine's process, if it is the one on record and alive."""
        try:
            record = json.loads(self._path(spec, "json").read_text())
            process = psutil.Process(int(record["pid"]))
            same = abs(process.create_time() - float(record["created"])) < 1
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (FileNotFoundError, ValueError, KeyError, psutil.NoSuchProcess):
            return None

    def _adopt(self, spec: ModelSpec, pid: int) -> asyncio.Event:
        """Watch an engine that an earlier router started, by a pidfd. Nobody learns its exit code any more."""
        ended = self._ended[spec.name] = asyncio.Event()

        def on_exit(pidfd: int) -> None:
            self._forget(pidfd)
            self._finish(spec, ended, None)

        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._finish(spec, ended, None)
        else:
            self._pidfds.add(pidfd)
            asyncio.get_running_loop().add_reader(pidfd, on_exit, pidfd)
        return ended

    def _forget(self, pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        self._pidfds.discard(pidfd)
        os.close(pidfd)

    async def _reap(self, spec: ModelSpec, child: asyncio.subprocess.Process, ended: asyncio.Event) -> None:
        code = await child.wait()
        self._exits[spec.name] = code if code >= 0 else 128 - code
        self._finish(spec, ended, self._exits[spec.name])

    def _finish(self, spec: ModelSpec, ended: asyncio.Event, exit_code: int | None) -> None:
        if self._ended.get(spec.name) is ended:
            del self._ended[spec.name]
        ended.set()
        self._events.put_nowait(Exited(spec.name, exit_code))


def _require_free_port(spec: ModelSpec) -> None:
    """An engine of somebody else on this address would pass for ours, so it must not be there. Raises EngineStartFailed."""
    address = urlsplit(spec.health_url)
    port = address.port or (443 if address.scheme == "https" else 80)
    with socket.socket(socket.AF_INET6 if ":" in (address.hostname or "") else socket.AF_INET) as probe:
        probe.settimeout(0.5)
        if probe.connect_ex((address.hostname or "127.0.0.1", port)) == 0:
            raise EngineStartFailed(
                f"something else already listens on {address.netloc}; stop it, or give model {spec.name!r} another port"
            )
