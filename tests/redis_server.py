"""A private redis-server for tests, on a unix socket in a directory of its own, with an append-only file."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import redis

from router.supervisor.parts import redis_program


class RedisServer:
    """One server that can be stopped, killed, frozen and started again in the same directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._socket = directory / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and return when it answers."""
        arguments = ["--port", "0", "--unixsocket", str(self._socket), "--dir", str(self._directory)]
        arguments += ["--save", "", "--appendonly", "yes", "--loglevel", "warning"]
        with (self._directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([redis_program(), *arguments], stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                except redis.RedisError:
                    if time.monotonic() > deadline or not self.running:
                        raise
                    time.sleep(0.01)
                else:
                    return

    def stop(self) -> None:
        """Ask it to end, and wait for that."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self.thaw()
            self._process.send_signal(number)
            self._process.wait(20)
            self._process = None

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGCONT)

    def lose_data(self) -> None:
        """Forget everything; only while it does not run."""
        assert not self.running
        for path in self._directory.glob("*.aof*"):
            path.unlink()
        shutil.rmtree(self._directory / "appendonlydir", ignore_errors=True)

    def make_fresh(self) -> None:
        """Running and empty, whatever was done to it."""
        if not self.running:
            self.start()
        self.thaw()
        with redis.Redis.from_url(self.url) as client:
            client.flushall()
            client.script_flush()
