"""llama-server in containers, for Hearth to start and stop: made here, removed with the benchmark."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.utils import kwargs_from_env

from benchmarks.prober import first_healthy
from benchmarks.processes import free_port
from benchmarks.relay import Exchange, Relay
from benchmarks.stack import model_entry

_PREPARED = "run tests/environment/prepare first, or set it"


@dataclass(frozen=True, slots=True)
class Engine:
    """One container. port: where it is published on 127.0.0.1. front: where clients are sent, a relay perhaps."""

    model: str
    container: str
    port: int
    front: int

    def entry(self, memory: str) -> dict[str, Any]:
        """Its entry in `model_list`."""
        return model_entry(self.model, self.front, container=self.container, memory=memory)


class Engines:
    """Containers of one benchmark, told apart from all others by a label."""

    def __init__(self, client: docker.APIClient, run: str) -> None:
        self._client = client
        self._label = f"hearth.benchmark={run}"
        self._began = time.time()

    def starts(self) -> list[str]:
        """The container of each start since the beginning, from Docker's events."""
        events: Any = self._client.events(
            since=int(self._began),
            until=int(time.time() + 1),
            filters={"type": ["container"], "event": ["start"], "label": [self._label]},
            decode=True,
        )
        return [event["Actor"]["Attributes"]["name"] for event in events]


@contextlib.contextmanager
def llama_servers(
    delays: Sequence[float], *, relayed: bool = False, slots: int = 4
) -> Iterator[tuple[Engines, list[Engine]]]:
    """One stopped container for each of `delays`: the seconds that it waits before it starts its server, as if it
    loaded for longer. relayed: send clients to a port of their own, where the caller puts a relay."""
    settings = _settings()
    gguf = Path(settings["HEARTH_TEST_GGUF"])
    run = secrets.token_hex(4)
    client = docker.APIClient(**kwargs_from_env())
    engines: list[Engine] = []
    try:
        for number, delay in enumerate(delays):
            model, port = f"tiny-{number}", free_port()
            engine = Engine(model, f"hearth-benchmark-{run}-{number}", port, free_port() if relayed else port)
            server = [
                *("llama-server", "-m", f"/models/{gguf.name}", "--host", "0.0.0.0", "--port", "8000"),
                *("--alias", model, "--ctx-size", "2048", "--parallel", str(slots), "--threads", "1", "--jinja"),
            ]
            client.create_container(
                settings["HEARTH_TEST_LLAMA_IMAGE"],
                name=engine.container,
                entrypoint=["sh", "-c", f"sleep {delay:.2f}; exec {shlex.join(server)}"],
                labels={"hearth.benchmark": run},
                ports=[8000],
                host_config=client.create_host_config(
                    binds={str(gguf.parent): {"bind": "/models", "mode": "ro"}},
                    port_bindings={8000: ("127.0.0.1", port)},
                ),
            )
            engines.append(engine)
        yield Engines(client, run), engines
    finally:
        for engine in engines:
            client.remove_container(engine.container, force=True)
        client.close()


class DockerCalls:
    """What the router asks of Docker, as a relay between them sees it."""

    def __init__(self, relay: Relay, socket: Path) -> None:
        self._relay = relay
        self.environment = {"DOCKER_HOST": f"unix://{socket}"}

    @classmethod
    @contextlib.asynccontextmanager
    async def watched(cls) -> AsyncIterator[DockerCalls]:
        """With a relay that serves while inside; give `environment` to the stack."""
        address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        if not address.startswith("unix://"):
            raise SystemExit(f"DOCKER_HOST is {address!r}; this needs Docker on a unix socket")
        relay = Relay(address.removeprefix("unix://"))
        with tempfile.TemporaryDirectory() as directory:
            socket = Path(directory) / "docker.sock"
            await relay.serve_socket(str(socket))
            try:
                yield cls(relay, socket)
            finally:
                await relay.close()

    async def healthy(self, engine: Engine, since: float) -> float:
        """The unix time of the first healthy answer after the next start since then."""
        await self._relay.answered("POST", f"/{engine.container}/start", since)
        return await first_healthy(engine.port)

    def last(self, engine: Engine, call: str) -> Exchange:
        """The newest `start` or `stop` of this engine."""
        return self._relay.last("POST", f"/{engine.container}/{call}")


def _settings() -> dict[str, str]:
    """The image and the model that tests/environment/prepare has made. Raises SystemExit without them."""
    cache = Path(os.environ.get("HEARTH_TEST_CACHE") or Path.home() / ".cache" / "hearth-test")
    found = dict(os.environ)
    with contextlib.suppress(FileNotFoundError):
        lines = (cache / "environment").read_text(encoding="utf-8").splitlines()
        found = dict(line.split("=", 1) for line in lines if "=" in line) | found
    for name in ("HEARTH_TEST_LLAMA_IMAGE", "HEARTH_TEST_GGUF"):
        if name not in found:
            raise SystemExit(f"{name} is not set: {_PREPARED}")
    return found
