"""Engines as child processes."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import fleet
import psutil
import pytest
from eventually import eventually
from runtime_contract import ENGINE, RuntimeContract, started

from router.config import ModelSpec
from router.errors import EngineMissing, EngineStartFailed
from router.runtimes.base import Runtime
from router.runtimes.process import ProcessRuntime


class ProcessBench:
    """Engines as child processes of the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.specs: dict[str, ModelSpec] = {}
        self.runtimes: list[ProcessRuntime] = []

    def spec(self, behaviour: str) -> ModelSpec:
        program = "no-such-program" if behaviour == "missing" else sys.executable
        return self.add(behaviour, [program, "-c", ENGINE, behaviour])

    def add(self, name: str, command: list[str], port: int | None = None) -> ModelSpec:
        port = port or _free_port()
        patience = 1.0 if name == "stubborn" else 20.0
        health_url = f"http://127.0.0.1:{port}/health"
        spec = fleet.spec(name, container=None, command=tuple(command), stop_timeout=patience, health_url=health_url)
        self.specs[name] = spec
        return spec

    def runtime(self) -> Runtime:
        runtime = ProcessRuntime(self.specs, self.directory)
        self.runtimes.append(runtime)
        return runtime

    def pid(self, spec: ModelSpec) -> int:
        return int(json.loads((self.directory / "engines" / f"{spec.name}.json").read_text())["pid"])

    async def kill(self, spec: ModelSpec) -> None:
        os.kill(self.pid(spec), signal.SIGKILL)

    async def end(self) -> None:
        for runtime in self.runtimes:
            await runtime.close()
        last = ProcessRuntime(self.specs, self.directory)
        for spec in self.specs.values():
            await last.stop(spec)
        await last.close()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[ProcessBench]:
    bench = ProcessBench(tmp_path)
    yield bench
    await bench.end()


class TestProcessRuntime(RuntimeContract):
    pass


async def test_models_of_similar_names_are_not_taken_for_each_other(bench: ProcessBench) -> None:
    ours, other = bench.add("org/model", [sys.executable, "-c", ENGINE, "obedient"]), bench.spec("org_model")
    runtime = bench.runtime()
    await runtime.start(ours)
    assert (await runtime.inspect(ours)).running
    assert not (await runtime.inspect(other)).running


async def test_record_of_another_process_proves_nothing(bench: ProcessBench) -> None:
    """The pid on record has been given to somebody else meanwhile: us."""
    spec = bench.spec("obedient")
    runtime = bench.runtime()
    await started(runtime, spec)
    record = bench.directory / "engines" / "obedient.json"
    real = record.read_text()
    mine = json.dumps({"pid": os.getpid(), "created": json.loads(real)["created"]})
    record.write_text(mine)
    other = bench.runtime()
    assert not (await other.inspect(spec)).running
    await other.stop(spec)
    record.write_text("{")
    assert not (await other.inspect(spec)).running
    record.write_text(real)
    assert (await other.inspect(spec)).running


async def test_engine_s_children_end_with_it(bench: ProcessBench) -> None:
    """A child that outlives its engine would hold the memory that the next model needs."""
    script = "import subprocess, sys; print(subprocess.Popen(['sleep', '600']).pid, flush=True); sys.exit(1)"
    spec = bench.add("parent", [sys.executable, "-c", script])
    runtime = bench.runtime()
    await runtime.start(spec)

    async def ended() -> bool:
        return not (await runtime.inspect(spec)).running

    await eventually(ended)
    (line,) = await runtime.logs(spec, 1)
    child = int(line)

    def gone() -> bool:
        return not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE

    await eventually(gone)


async def test_engine_does_not_die_with_the_loop_that_started_it(bench: ProcessBench) -> None:
    spec = bench.spec("obedient")

    def run() -> None:
        async def start() -> None:
            runtime = bench.runtime()
            await started(runtime, spec)
            await runtime.close()
            bench.runtimes.clear()

        asyncio.run(start())
        gc.collect()

    await asyncio.to_thread(run)
    assert (await bench.runtime().inspect(spec)).running


async def test_somebody_else_on_the_engine_s_port_is_noticed(bench: ProcessBench) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        spec = bench.add("late", [sys.executable, "-c", ENGINE, "obedient"], port)
        with pytest.raises(EngineStartFailed, match="something else already listens"):
            await bench.runtime().start(spec)


async def test_engine_gets_its_environment_and_a_session_of_its_own(bench: ProcessBench) -> None:
    script = "import os; print(os.environ['MODEL'], os.getsid(0) == os.getpid(), 'PATH' in os.environ)"
    spec = bench.add("env/of it", [sys.executable, "-c", script]).model_copy(update={"environment": {"MODEL": "tiny"}})
    runtime = bench.runtime()
    await runtime.start(spec)

    async def written() -> bool:
        return await runtime.logs(spec, 1) == ("tiny True True",)

    await eventually(written)


async def test_program_that_cannot_be_run(bench: ProcessBench, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a program")
    with pytest.raises(EngineMissing, match="cannot be run"):
        await bench.runtime().start(bench.add("text", [str(tmp_path / "text")]))
    with pytest.raises(EngineMissing, match="has no command"):
        await bench.runtime().start(bench.spec("obedient").model_copy(update={"command": None}))
