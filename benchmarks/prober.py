"""When an engine gives its first healthy answer, seen from outside and more often than anybody needs.

Only an engine whose start Docker has answered is asked: a question to a container's address before that makes the
kernel look for the address in vain, and then wait a second before it looks again.
"""

from __future__ import annotations

import asyncio
import time

#: Seconds between two questions.
PAUSE = 0.002
_LIMIT = 60.0
_QUESTION = b"GET /health HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n"


async def first_healthy(port: int) -> float:
    """The unix time at which the engine on this port of 127.0.0.1 first answered 200. Raises TimeoutError."""
    async with asyncio.timeout(_LIMIT):
        while True:
            if await _healthy(port):
                return time.time()
            await asyncio.sleep(PAUSE)


async def _healthy(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(_QUESTION)
        return (await reader.readline()).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
    finally:
        writer.close()
