"""A light HTTP client that keeps a fixed number of chats in flight: raw sockets, one request after another on each."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from benchmarks.stack import MASTER_KEY


class Connection:
    """One kept-alive connection to 127.0.0.1:port."""

    def __init__(self, port: int, body: dict[str, Any]) -> None:
        self._port = port
        payload = json.dumps(body).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {MASTER_KEY}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
        )
        self._request = head.encode() + payload
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self) -> float:
        """Seconds from the request's first byte to the answer's last. Raises RuntimeError for any status but 200."""
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        began = time.perf_counter()
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        _, found, rest = head.lower().partition(b"content-length:")
        body = await self._reader.readexactly(int(rest.split(b"\r\n", 1)[0])) if found else b""
        took = time.perf_counter() - began
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{head.decode()}{body.decode()}")
        return took

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            await self._writer.wait_closed()


async def in_flight(connections: list[Connection], seconds: float) -> tuple[list[float], float]:
    """Ask on all connections for so long. Returns the seconds of each answer, and the seconds that it all took."""
    began = time.perf_counter()
    latencies: list[float] = []

    async def ask_on(connection: Connection) -> None:
        while time.perf_counter() - began < seconds:
            latencies.append(await connection.ask())

    await asyncio.gather(*(ask_on(connection) for connection in connections))
    return latencies, time.perf_counter() - began
