"""A Docker that cannot be asked: the message says why, and what to do."""

from __future__ import annotations

import socket

import pytest
from fleet import spec

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
