"""When an engine is ready: its own health answer, asked for often at first and less often the longer it loads."""

from __future__ import annotations

import asyncio
from typing import Protocol

import httpx

#: The pause before the next probe is this share of the time that the engine has been loading, within these limits (s).
#: So a probe is late by one percent of the load, and a load of minutes is not asked forty times a second.
SHARE = 0.01
SHORTEST = 0.025
LONGEST = 1.0
_PROBE_TIMEOUT = httpx.Timeout(2.0, connect=0.5)


class Probe(Protocol):
    """Asks an engine whether it is ready."""

    async def healthy(self, url: str) -> bool:
        """Whether `url` answers 200 now. Never raises."""


class HttpProbe:
    """A Probe over HTTP. A published port accepts connections before its engine listens: resets and empty answers
    mean "not yet", as do refusals and any status but 200."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(timeout=_PROBE_TIMEOUT, trust_env=False)

    async def healthy(self, url: str) -> bool:
        try:
            return (await self._client.get(url)).status_code == 200
        except (httpx.HTTPError, httpx.InvalidURL, OSError):
            return False

    async def close(self) -> None:
        await self._client.aclose()


async def until_healthy(probe: Probe, url: str, loading_for: float = 0.0) -> None:
    """Return when `url` is healthy; the caller sets the limit. loading_for: seconds since the engine's start."""
    began = asyncio.get_running_loop().time() - loading_for
    while not await probe.healthy(url):
        elapsed = asyncio.get_running_loop().time() - began
        await asyncio.sleep(min(max(elapsed * SHARE, SHORTEST), LONGEST))
