"""Engines as real containers, and Docker as it behaves when its connection is cut or it hangs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
import fleet
import pytest
from eventually import eventually
from runtime_contract import ENGINE, RuntimeContract, started, watching

from router.config import ModelSpec
from router.errors import EngineMissing, EngineStartFailed, RuntimeUnavailable
from router.runtimes.base import Exited, Lost, Regained, Runtime, Started
from router.runtimes.docker import DockerRuntime

#: docker's client leaves the socket of a connection that was refused to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

MEMORY_EATER = "data = []\nwhile True: data.append(bytearray(2**20))"


def _image(variable: str) -> str:
    image = os.environ.get(variable)
    if not image:
        pytest.skip(f"{variable} is not set")
    try:
        client = docker.from_env()
        client.images.get(image)
        client.close()
    except docker.errors.DockerException as error:
        pytest.skip(f"no Docker with image {image}: {error}")
    return image


class DockerBench:
    """Engines as containers, made through the real engine and removed at the end."""

    def __init__(self, image: str) -> None:
        self.client = docker.from_env()
        self.image = image
        self.specs: dict[str, ModelSpec] = {}
        self.runtimes: list[DockerRuntime] = []
        self.containers: list[Any] = []

    def spec(self, behaviour: str) -> ModelSpec:
        if behaviour == "missing":
            return self._spec(behaviour, f"hearth-test-{secrets.token_hex(4)}")
        return self.add(behaviour, ["python3", "-c", ENGINE, behaviour])

    def add(self, name: str, command: list[str], **options: Any) -> ModelSpec:
        container = f"hearth-test-{secrets.token_hex(4)}"
        values = {"image": self.image, "entrypoint": "", "network_mode": "none"} | options
        self.containers.append(self.client.containers.create(command=command, name=container, **values))
        return self._spec(name, container)

    def _spec(self, name: str, container: str) -> ModelSpec:
        stop_timeout = 1.0 if name == "stubborn" else 20.0
        self.specs[name] = fleet.spec(name, container=container, stop_timeout=stop_timeout)
        return self.specs[name]

    def runtime(self) -> Runtime:
        runtime = DockerRuntime(self.specs)
        self.runtimes.append(runtime)
        return runtime

    async def kill(self, spec: ModelSpec) -> None:
        await asyncio.to_thread(lambda: self.client.containers.get(spec.container).kill())

    async def end(self) -> None:
        for runtime in self.runtimes:
            await runtime.close()
        for container in self.containers:
            await asyncio.to_thread(container.remove, force=True, v=True)
        self.client.close()


@pytest.fixture
async def bench() -> AsyncIterator[DockerBench]:
    bench = DockerBench(_image("HEARTH_TEST_PYTHON_IMAGE"))
    yield bench
    await bench.end()


class TestDockerRuntime(RuntimeContract):
    async def test_container_killed_for_want_of_memory(self, bench: DockerBench) -> None:
        limits = {"mem_limit": "32m", "memswap_limit": "32m"}
        spec = bench.add("eater", ["python3", "-c", MEMORY_EATER], **limits)
        runtime = bench.runtime()
        await runtime.start(spec)

        async def ended() -> bool:
            return not (await runtime.inspect(spec)).running

        await eventually(ended)
        found = await runtime.inspect(spec)
        assert found.out_of_memory
        assert found.exit_code == 137

    async def test_missing_container_is_said_to_be_missing_by_every_question(self, bench: DockerBench) -> None:
        spec = bench.spec("missing")
        runtime = bench.runtime()
        for question in (runtime.inspect(spec), runtime.stop(spec), runtime.logs(spec, 1)):
            with pytest.raises(EngineMissing, match="create it first"):
                await question

    async def test_start_that_docker_refuses_is_explained(self, bench: DockerBench) -> None:
        spec = bench.add("broken", ["no-such-program"])
        with pytest.raises(EngineStartFailed, match="did not start"):
            await bench.runtime().start(spec)

    async def test_other_containers_are_none_of_its_business(self, bench: DockerBench) -> None:
        spec = bench.spec("obedient")
        stranger = bench.add("stranger", ["python3", "-c", ENGINE, "obedient"])
        del bench.specs["stranger"]
        async with watching(bench.runtime()) as watcher:
            await asyncio.to_thread(bench.client.containers.get(stranger.container).start)
            await started(bench.runtime(), spec)
            await watcher.heard(Started(spec.name))
            assert watcher.events == [Regained(), Started(spec.name)]

    async def test_container_handled_by_somebody_else_is_noticed(self, bench: DockerBench) -> None:
        spec = bench.spec("obedient")
        container = bench.client.containers.get(spec.container)
        async with watching(bench.runtime()) as watcher:
            await asyncio.to_thread(container.start)
            await watcher.heard(Started(spec.name))
            await asyncio.to_thread(container.kill)
            await watcher.heard(Exited(spec.name, 137))


# --- Docker's connection


class Relay:
    """A unix socket in front of Docker's own that can be cut and can hang."""

    def __init__(self, path: Path, target: str) -> None:
        self._path = path
        self._target = target
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def cut(self) -> None:
        """Nobody listens any more, and what was open is closed."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._path.unlink(missing_ok=True)
        self.drop()

    def drop(self) -> None:
        """Close what is open; new connections are let in."""
        for writer in self._writers:
            writer.transport.abort()

    def freeze(self) -> None:
        """Connections are accepted and stay open, and nothing moves."""
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    async def close(self) -> None:
        self.thaw()
        await self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._target)
        self._writers |= {writer, back}
        pumps = [asyncio.create_task(self._pump(reader, back)), asyncio.create_task(self._pump(there, writer))]
        self._tasks.update(pumps)
        await asyncio.gather(*pumps, return_exceptions=True)
        for each in (writer, back):
            each.transport.abort()
            with contextlib.suppress(OSError):
                await each.wait_closed()
        self._writers -= {writer, back}
        self._tasks.difference_update(pumps)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await self._flowing.wait()
                sink.write(data)
                await sink.drain()
            sink.write_eof()


@pytest.fixture
async def relay(bench: DockerBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Relay]:
    target = urlsplit(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")).path
    relay = Relay(tmp_path / "docker.sock", target)
    await relay.open()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    yield relay
    for runtime in bench.runtimes:
        await runtime.close()
    await relay.close()


async def test_loss_of_docker_is_told_once_and_its_return_too(bench: DockerBench, relay: Relay) -> None:
    spec = bench.spec("obedient")
    runtime = bench.runtime()
    async with watching(runtime) as watcher:
        await relay.cut()
        await watcher.heard_kind(Lost)
        with pytest.raises(RuntimeUnavailable):
            await runtime.inspect(spec)
        with pytest.raises(RuntimeUnavailable):
            await runtime.start(spec)
        await asyncio.to_thread(bench.client.containers.get(spec.container).start)  # nobody hears of it
        await relay.open()
        await eventually(lambda: watcher.events[-1] == Regained())
        kinds = [type(event) for event in watcher.events]
        assert kinds == [Regained, Lost, Regained]
        assert (await runtime.inspect(spec)).running, "so it has to be asked"
        await runtime.stop(spec)
        await watcher.heard(Exited(spec.name, 0))


async def test_loss_of_the_event_stream_alone_is_made_good(bench: DockerBench, relay: Relay) -> None:
    spec = bench.spec("obedient")
    runtime = bench.runtime()
    async with watching(runtime) as watcher:
        relay.drop()
        await eventually(lambda: watcher.events.count(Regained()) == 2)
        await started(bench.runtime(), spec)
        await watcher.heard(Started(spec.name))


async def test_docker_that_hangs_is_lost_and_every_question_ends(bench: DockerBench, relay: Relay) -> None:
    spec = bench.spec("obedient")
    runtime = bench.runtime()
    await runtime.inspect(spec)
    async with watching(runtime) as watcher:
        relay.freeze()
        await watcher.heard_kind(Lost)
        async with asyncio.timeout(20):
            for _ in range(2):  # each time more than there are threads
                answers = await asyncio.gather(*(runtime.inspect(spec) for _ in range(9)), return_exceptions=True)
                assert {type(answer) for answer in answers} == {RuntimeUnavailable}
            with pytest.raises(RuntimeUnavailable):
                await bench.runtime().logs(spec, 1)
        relay.thaw()
        await eventually(lambda: watcher.events[-1] == Regained())
        assert not (await runtime.inspect(spec)).running


async def test_docker_away_at_the_beginning_is_told_first(bench: DockerBench, relay: Relay) -> None:
    await relay.cut()
    async with watching(bench.runtime()) as watcher:
        assert isinstance(watcher.events[0], Lost)
        await relay.open()
        await eventually(lambda: watcher.events[-1] == Regained())


# --- a real engine


async def test_real_engine_that_cannot_load_ends_with_its_own_words(bench: DockerBench) -> None:
    image = _image("HEARTH_TEST_LLAMA_IMAGE")
    spec = bench.add("llama", ["llama-server", "-m", "/no/such/model.gguf"], image=image)
    runtime = bench.runtime()
    async with watching(runtime) as watcher:
        await runtime.start(spec)
        await watcher.heard(Exited("llama", 1))
    assert any("/no/such/model.gguf" in line for line in await runtime.logs(spec, 20))
