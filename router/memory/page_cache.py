"""Unused memory in place of cached files: a helper that the admin runs drops the kernel's page cache before a start.

The kernel gives cached files up by itself when a program asks for memory, but on unified memory some engines believe
the driver, which counts the cache as taken, and refuse to start. Dropping it takes root on the machine, which the
router is not, so it asks a helper that can do this and nothing else (docs/memory.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from router.errors import MemoryUnknown
from router.memory.meminfo import Meminfo
from router.quantities import format_duration, format_size

log = logging.getLogger(__name__)

#: Seconds: files that are not on disk yet have to be written first.
PATIENCE = 20.0
_DONE = b"dropped\n"
#: Bytes of an answer that are read; it is one short line.
_ANSWER = 300


class PageCache:
    """The helper behind a unix socket: a connection is the question, one line is the answer. limit: seconds that a
    start waits for it at most."""

    def __init__(self, socket: Path, limit: float = PATIENCE, meminfo: Meminfo | None = None) -> None:
        self._socket = socket
        self._limit = limit
        self._meminfo = meminfo or Meminfo()

    async def make_room(self, size: int) -> bool:
        """Have the cache dropped if less than `size` bytes hold nothing at all. Returns whether it was; never fails,
        because a start does not depend on it."""
        try:
            unused = (await asyncio.to_thread(self._meminfo.read)).unused
            if unused >= size:
                return False
            async with asyncio.timeout(self._limit):
                answer = await self._ask()
        except MemoryUnknown as error:
            log.warning("the page cache is not dropped: %s", error)
        except TimeoutError:
            log.warning("the page cache is not dropped: no answer within %s", format_duration(self._limit))
        except OSError as error:
            log.warning("the page cache is not dropped: %s: %s; does the helper run?", self._socket, error.strerror)
        else:
            if answer == _DONE:
                log.info("the page cache was dropped: only %s were unused", format_size(unused))
                return True
            log.warning("the page cache is not dropped: %s", answer.decode(errors="replace").strip() or "no answer")
        return False

    async def _ask(self) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self._socket)
        try:
            return await reader.read(_ANSWER)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
