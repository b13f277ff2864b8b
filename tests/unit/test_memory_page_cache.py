"""The page cache's helper as a process of its own, on a file instead of the kernel's, and how the router asks it."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from eventually import eventually

from router.memory.meminfo import Meminfo
from router.memory.page_cache import PageCache

HELPER = Path(__file__).parents[2] / "custom-docker-containers" / "hearth" / "page_cache_helper.py"
UNUSED = 20 * 1024


class Bench:
    """A directory with the helper's socket, the file that it writes, and a meminfo of little unused memory."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "socket"
        self.drop_caches = directory / "drop_caches"
        self.meminfo = directory / "meminfo"
        self.meminfo.write_text("MemFree:        20 kB\nMemAvailable:   90 kB\n")
        self.cache = PageCache(self.socket, 5.0, Meminfo(self.meminfo))

    @contextlib.contextmanager
    def helper(self) -> Iterator[None]:
        process = subprocess.Popen([sys.executable, "-I", HELPER, self.socket, self.drop_caches])
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)

    async def listening(self) -> None:
        async def there() -> bool:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_unix_connection(self.socket)
                writer.close()
                await writer.wait_closed()
                return True
            return False

        await eventually(there)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="hearth-") as directory:  # a socket's path must be short
        yield Bench(Path(directory))


async def test_cache_is_dropped_when_too_little_is_unused(bench: Bench) -> None:
    bench.drop_caches.write_text("untouched")
    with bench.helper():
        await eventually(bench.socket.exists)
        assert await bench.cache.make_room(UNUSED) is False
        assert bench.drop_caches.read_text() == "untouched", "there is enough"
        await bench.listening()
        assert await bench.cache.make_room(UNUSED + 1) is True
        assert bench.drop_caches.read_text() == "1\n", "the page cache and nothing else"
        bench.drop_caches.write_text("untouched")
        assert await bench.cache.make_room(UNUSED + 1) is True
        assert bench.drop_caches.read_text() == "untouched", "that was a moment ago"


async def test_helper_that_may_not_says_why_and_goes_on(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.drop_caches.mkdir()
    with bench.helper():
        await bench.listening()
        assert await bench.cache.make_room(UNUSED + 1) is False
        assert "Is a directory" in caplog.text
        bench.drop_caches.rmdir()
        assert await bench.cache.make_room(UNUSED + 1) is True


async def test_helper_is_started_again_over_its_old_socket(bench: Bench) -> None:
    for _ in range(2):
        with bench.helper():
            await bench.listening()
    assert bench.socket.exists()


async def test_start_does_not_depend_on_the_helper(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    assert await bench.cache.make_room(UNUSED + 1) is False
    assert "does the helper run?" in caplog.text
    bench.meminfo.unlink()
    assert await bench.cache.make_room(UNUSED + 1) is False
    assert "meminfo: No such file" in caplog.text


async def test_helper_that_does_not_answer_is_given_up(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_unix_server(silent, bench.socket):
        assert await PageCache(bench.socket, 0.05, Meminfo(bench.meminfo)).make_room(UNUSED + 1) is False
    assert "no answer within" in caplog.text
