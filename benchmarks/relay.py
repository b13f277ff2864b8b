"""A relay for streams that notes when each HTTP request passed, and when its answer began."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

_METHODS = (b"GET ", b"POST ", b"DELETE ")


@dataclass(slots=True)
class Exchange:
    """One request. line: method and path. began and answered: unix seconds; answered is 0 until the answer begins."""

    line: str
    began: float
    answered: float = 0.0

    def matches(self, method: str, ending: str) -> bool:
        """Whether it has this method and a path that, without its query, ends like this."""
        found, _, path = self.line.partition(" ")
        return found == method and path.partition("?")[0].endswith(ending)


class Relay:
    """Relays to a TCP port of this machine or to a unix socket, whoever connects to `serve_port` or `serve_socket`.

    A connection carries one request at a time, as HTTP/1.1 clients do it.
    """

    def __init__(self, target: int | str) -> None:
        self._target = target
        self._servers: list[asyncio.Server] = []
        self._news = asyncio.Event()
        self.exchanges: list[Exchange] = []

    async def serve_port(self, port: int) -> None:
        self._servers.append(await asyncio.start_server(self._relay, "127.0.0.1", port))

    async def serve_socket(self, path: str) -> None:
        self._servers.append(await asyncio.start_unix_server(self._relay, path))

    async def close(self) -> None:
        for server in self._servers:
            server.close()

    def last(self, method: str, ending: str = "") -> Exchange:
        """The newest request with this method whose path, without its query, ends like this. Raises LookupError."""
        for exchange in reversed(self.exchanges):
            if exchange.matches(method, ending):
                return exchange
        raise LookupError(f"no {method} of {ending!r} has passed")

    async def answered(self, method: str, ending: str, since: float) -> Exchange:
        """The first such request since then (unix seconds), once its answer has begun. For one caller at a time."""
        while True:
            for exchange in self.exchanges:
                if exchange.answered and exchange.began >= since and exchange.matches(method, ending):
                    return exchange
            self._news.clear()
            await self._news.wait()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if isinstance(self._target, int):
                there = await asyncio.open_connection("127.0.0.1", self._target)
            else:
                there = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.transport.abort()
            return
        exchange: Exchange | None = None

        def outward(data: bytes) -> None:
            nonlocal exchange
            if data.startswith(_METHODS):
                line = data.split(b"\r\n", 1)[0].rpartition(b" ")[0].decode("latin-1")
                exchange = Exchange(line, time.time())
                self.exchanges.append(exchange)

        def homeward(_: bytes) -> None:
            if exchange is not None and not exchange.answered:
                exchange.answered = time.time()
                self._news.set()

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, outgoing: bool) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    (outward if outgoing else homeward)(data)
                    sink.write(data)
                    await sink.drain()
            with contextlib.suppress(OSError, RuntimeError):
                sink.close()

        await asyncio.gather(copy(reader, there[1], True), copy(there[0], writer, False))
