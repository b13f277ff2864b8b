"""Child processes of a benchmark: started on given cores, logged to a file, ended with the benchmark."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
#: Seconds that a process gets to start and to end. LiteLLM takes some 15 s to start on a free core.
START_LIMIT = 120.0
END_LIMIT = 30.0


class Child:
    """One process. cores: where it and its own children may run; empty for everywhere."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: dict[str, str],
        directory: Path,
        cores: Collection[int] = (),
    ) -> None:
        self.name = name
        self._log = directory / f"{name}.log"
        with self._log.open("ab") as log, _affinity(cores):
            self._process = subprocess.Popen(
                list(command),
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.usage = psutil.Process(self._process.pid)

    @property
    def cpu_seconds(self) -> float:
        """Processor time that it has used so far, in user and kernel."""
        times = self.usage.cpu_times()
        return float(times.user + times.system)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def require_running(self) -> None:
        """Raises RuntimeError with the last lines of its log when it has ended."""
        if self._process.poll() is not None:
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])
            raise RuntimeError(f"{self.name} has ended with code {self._process.returncode}:\n{tail}")

    def stop(self) -> None:
        """Ask it to end, and wait for that; by force when it does not."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(END_LIMIT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(END_LIMIT)


@contextlib.contextmanager
def _affinity(cores: Collection[int]) -> Iterator[None]:
    """A process inherits the cores of the thread that starts it."""
    before = os.sched_getaffinity(0)
    if cores:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def until(condition: Callable[[], bool], what: str, limit: float = START_LIMIT) -> None:
    """Wait until the condition holds. Raises TimeoutError after `limit` seconds."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {limit:.0f} s: {what}")
        time.sleep(0.02)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def split_cores() -> tuple[set[int], set[int]]:
    """One core for the process that is measured and the others for the rest; both empty on a single core."""
    cores = sorted(os.sched_getaffinity(0))
    return ({cores[0]}, set(cores[1:])) if len(cores) > 1 else (set(), set())
