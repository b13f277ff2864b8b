"""A Docker that cannot be asked: the message says why, and what to do. One that is busy can be asked."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from fleet import spec
from threaded_server import ThreadedServer

from router.errors import RuntimeUnavailable
from router.runtimes.docker import DockerRuntime, _explained


async def refused(address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DOCKER_HOST", address)
    model = spec("m")
    runtime = DockerRuntime({"m": model})
    with pytest.raises(RuntimeUnavailable) as caught:
        await runtime.inspect(model)
    await runtime.close()
    return str(caught.value)


async def test_nothing_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"tcp://127.0.0.1:{gone.getsockname()[1]}"
    said = await refused(address, monkeypatch)
    assert said == (
        f"Docker cannot be asked: nothing answers at {address}; start Docker, or set DOCKER_HOST to where it listens"
    )


async def test_something_is_there_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        said = await refused(f"tcp://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
    assert said == "Docker cannot be asked: it does not answer in time"


def test_the_socket_belongs_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    said = _explained(OSError("('Connection aborted.', PermissionError(13, 'Permission denied'))"))
    assert said.startswith("this user may not use its usual socket, /var/run/docker.sock; run the router in the group")


class SlowToStop(ThreadedServer):
    """A Docker with a running container of any name, whose stops last until they are let go."""

    def __init__(self) -> None:
        self.stops = threading.Semaphore(0)
        self.go = threading.Event()

        class Handler(_SlowAnswers):
            docker = self

        self.listen(Handler)


class _SlowAnswers(BaseHTTPRequestHandler):
    docker: SlowToStop

    def do_GET(self) -> None:
        state = {"Running": not self.docker.go.is_set(), "ExitCode": 0, "StartedAt": "2026-01-01T00:00:00Z"}
        body = json.dumps({"ApiVersion": "1.41", "State": state}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.docker.stops.release()
        self.docker.go.wait(30)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def slow_to_stop(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowToStop]:
    with SlowToStop() as server:
        monkeypatch.setenv("DOCKER_HOST", server.url.replace("http", "tcp"))
        yield server
        server.go.set()


async def test_many_containers_that_stop_keep_nobody_waiting(slow_to_stop: SlowToStop) -> None:
    models = {name: spec(name, container=name) for name in map(str, range(20))}
    runtime = DockerRuntime(models)
    stops = [asyncio.create_task(runtime.stop(model)) for model in models.values()]
    for _ in stops:
        assert await asyncio.to_thread(slow_to_stop.stops.acquire, timeout=30), "all of them are asked to stop at once"
    assert (await runtime.inspect(models["0"])).running
    slow_to_stop.go.set()
    await asyncio.gather(*stops)
    await runtime.close()
