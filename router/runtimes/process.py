"""Engines as child processes, for a box without Docker.

Each engine leads its own session, so that it outlives the router, and leaves a record (pid and start time) in the state
directory, by which the next router finds it again. A pid alone proves nothing: it may have been given to another
program. Its end is seen through a pidfd, the same way for an engine of this router and of an earlier one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

import psutil

from router.config import ModelSpec
from router.errors import EngineMissing, EngineStartFailed, EngineStopFailed
from router.runtimes.base import Exited, Instance, Regained, RuntimeEvent, Started

#: Seconds that a killed process gets to be gone, and an ended one to be noticed.
_KILL_WAIT = 5.0
_REAP_WAIT = 1.0


class ProcessRuntime:
    """Runs each model's `command`. state_dir holds a record and a log for each model."""

    def __init__(self, specs: dict[str, ModelSpec], state_dir: Path) -> None:
        self._specs = specs
        self._dir = state_dir / "engines"
        self._dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._events: asyncio.Queue[RuntimeEvent] = asyncio.Queue()
        self._exits: dict[str, int | None] = {}
        self._ended: dict[str, asyncio.Event] = {}  # of each engine that runs: set when it has ended
        self._pidfds: set[int] = set()

    async def start(self, spec: ModelSpec) -> None:
        if self._find(spec) is not None:
            return
        if spec.command is None:
            raise EngineMissing(f"model {spec.name!r} has no command")
        _require_free_port(spec)
        self._exits.pop(spec.name, None)
        try:
            pid = _spawn(spec.command, {**os.environ, **spec.environment}, self._path(spec, "log"))
        except OSError as error:
            raise EngineMissing(f"the program of model {spec.name!r} cannot be run: {error}") from error
        record = {"pid": pid, "created": psutil.Process(pid).create_time()}  # unreaped, so it is there
        self._path(spec, "json").write_text(json.dumps(record))
        self._events.put_nowait(Started(spec.name))
        self._follow(spec, pid)

    async def stop(self, spec: ModelSpec) -> None:
        process = self._find(spec)
        if process is None:
            return
        ended = self._ended.get(spec.name) or self._follow(spec, process.pid)
        for sign, patience in ((signal.SIGTERM, spec.stop_timeout), (signal.SIGKILL, _KILL_WAIT)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await ended.wait()
                return
        raise EngineStopFailed(f"process {process.pid} of model {spec.name!r} does not end")

    async def inspect(self, spec: ModelSpec) -> Instance:
        process = self._find(spec)
        if process is None:
            if ended := self._ended.get(spec.name):  # its exit code is about to be known
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_REAP_WAIT):
                        await ended.wait()
            return Instance(running=False, exit_code=self._exits.get(spec.name))
        if spec.name not in self._ended:
            self._follow(spec, process.pid)
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
        for pidfd in self._pidfds.copy():
            self._forget(pidfd)

    # --- records of processes

    def _path(self, spec: ModelSpec, kind: str) -> Path:
        return self._dir / f"{quote(spec.name, safe='')}.{kind}"  # no two names become one

    def _find(self, spec: ModelSpec) -> psutil.Process | None:
        """The engine's process, if it is the one on record and alive."""
        try:
            record = json.loads(self._path(spec, "json").read_text())
            process = psutil.Process(int(record["pid"]))
            same = abs(process.create_time() - float(record["created"])) < 1
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (FileNotFoundError, ValueError, KeyError, psutil.NoSuchProcess):
            return None

    def _follow(self, spec: ModelSpec, pid: int) -> asyncio.Event:
        """Watch an engine until its end; the event is set then."""
        ended = self._ended[spec.name] = asyncio.Event()

        def on_exit(pidfd: int) -> None:
            self._forget(pidfd)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # what it left behind in its session holds memory too
            self._finish(spec, ended, _reap(pid))

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

    def _finish(self, spec: ModelSpec, ended: asyncio.Event, exit_code: int | None) -> None:
        if self._ended.get(spec.name) is ended:
            del self._ended[spec.name]
            self._exits[spec.name] = exit_code
        ended.set()
        self._events.put_nowait(Exited(spec.name, exit_code))


def _spawn(command: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
    """The pid of a new child in a session of its own, both outputs to `log`. Raises OSError. Neither subprocess nor
    asyncio's: their objects warn about, or kill, a child that outlives them, and an engine outlives the router."""
    return os.posix_spawnp(
        command[0],
        list(command),
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigdef=[signal.SIGPIPE],  # Python ignores it, and children would inherit that
    )


def _reap(pid: int) -> int | None:
    """The exit code of an ended child, 128 and the signal's number if one killed it; None if it is no child of ours."""
    try:
        _, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _require_free_port(spec: ModelSpec) -> None:
    """Somebody else's engine on this address would pass for ours. Raises EngineStartFailed if there is one."""
    address = urlsplit(spec.health_url)
    port = address.port or (443 if address.scheme == "https" else 80)
    with socket.socket(socket.AF_INET6 if ":" in (address.hostname or "") else socket.AF_INET) as probe:
        probe.settimeout(0.5)
        if probe.connect_ex((address.hostname or "127.0.0.1", port)) == 0:
            raise EngineStartFailed(
                f"something else already listens on {address.netloc}; stop it, or give model {spec.name!r} another port"
            )
