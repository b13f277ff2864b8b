"""When probes are sent."""

import asyncio
import contextlib

import pytest

from router import readiness
from router.readiness import HttpProbe, until_healthy


class _Times:
    """Records the pauses between probes instead of waiting; healthy after `probes` of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, probes: int) -> None:
        self.pauses: list[float] = []
        self._left = probes
        self._now = 0.0
        monkeypatch.setattr(readiness.asyncio, "sleep", self._sleep)
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda: self._now)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._now += seconds

    async def healthy(self, url: str) -> bool:
        assert url == "http://engine/health"
        self._left -= 1
        return self._left < 0


async def test_first_probe_comes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    times = _Times(monkeypatch, 0)
    await until_healthy(times, "http://engine/health")
    assert times.pauses == []


async def test_probes_are_frequent_at_first_and_rarer_later(monkeypatch: pytest.MonkeyPatch) -> None:
    times = _Times(monkeypatch, 1500)
    await until_healthy(times, "http://engine/health")
    assert times.pauses[0] == readiness.SHORTEST
    assert times.pauses == sorted(times.pauses)
    assert times.pauses[-1] == readiness.LONGEST


async def test_pace_goes_on_where_an_earlier_router_left_it(monkeypatch: pytest.MonkeyPatch) -> None:
    times = _Times(monkeypatch, 1)
    await until_healthy(times, "http://engine/health", loading_for=50.0)
    assert times.pauses == [pytest.approx(50.0 * readiness.SHARE)]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", b"", b"nonsense\r\n\r\n"])
async def test_anything_but_200_is_not_ready_yet(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    probe = HttpProbe()
    async with server:
        assert not await probe.healthy(f"http://127.0.0.1:{port}/health")
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        assert await probe.healthy(f"http://127.0.0.1:{port}/health")
    assert not await probe.healthy(f"http://127.0.0.1:{port}/health"), "nobody listens any more"
    await probe.close()


@pytest.mark.parametrize("url", ["http://no-such-host.invalid/health", "http://engine:$PORT/health"])
def test_probe_does_not_raise_for_what_is_nowhere(url: str) -> None:
    async def ask() -> bool:
        probe = HttpProbe()
        try:
            return await probe.healthy(url)
        finally:
            await probe.close()

    assert asyncio.run(ask()) is False
