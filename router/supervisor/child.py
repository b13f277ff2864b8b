"""One child process of the supervisor.

It leads a session of its own, so that Ctrl-C in the terminal reaches the supervisor only, and it gets SIGTERM from the
kernel when the supervisor dies, however that happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

#: Seconds between two looks whether a part is ready, and that a killed process gets to be gone.
_PROBE_INTERVAL = 0.1
_KILL_WAIT = 5.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Part:
    """What one process of the server is. ready: whether it can be used now. grace: seconds from SIGTERM to SIGKILL.
    kept_open: descriptors that it inherits."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    ready: Callable[[], Awaitable[bool]]
    grace: float
    kept_open: tuple[int, ...] = ()


class Child:
    """The process of one part; can be started again after it ended."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """None before the first start."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the process; its output is appended to the part's log. Raises OSError."""
        with self.part.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.part.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.part.environment),
                start_new_session=True,
                pass_fds=self.part.kept_open,
                preexec_fn=_end_with_parent(os.getpid()),
            )

    async def wait(self) -> None:
        """Return when the process has ended."""
        if self._process:
            await self._process.wait()

    async def until_ready(self) -> bool:
        """True as soon as the part can be used, False when the process ends first."""
        while self.running:
            if await self.part.ready():
                return True
            await asyncio.sleep(_PROBE_INTERVAL)
        return False

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after the part's grace, also for what it left behind in its session."""
        if self._process is None:
            return
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), self.part.grace)
            except TimeoutError:
                self.kill()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._process.wait(), _KILL_WAIT)
        self._kill_session()

    def kill(self) -> None:
        """SIGKILL for the process and its session, at once."""
        if self.running:
            self._kill_session()

    def _kill_session(self) -> None:
        if self._process:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def describe_end(self) -> str:
        """How the process ended, for people."""
        code = self._process.returncode if self._process else None
        if code is None:
            return "it runs"
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"


def last_lines(log: Path, count: int) -> tuple[str, ...]:
    """The last `count` lines of a log, oldest first; none when there is no log."""
    try:
        with log.open(encoding="utf-8", errors="replace") as lines:
            return tuple(line.rstrip("\n") for line in deque(lines, maxlen=count))
    except OSError:
        return ()


def rotate(log: Path) -> None:
    """Begin a new log, and keep the one of the run before as `.1`."""
    with contextlib.suppress(FileNotFoundError):
        log.replace(log.with_name(f"{log.name}.1"))
    log.touch(mode=0o600)


def _end_with_parent(parent: int) -> Callable[[], None] | None:
    """What a new child does before its program: ask the kernel for SIGTERM when the parent dies."""
    if _libc is None:
        return None
    prctl = _libc.prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask
