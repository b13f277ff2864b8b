"""llama-server in containers: made by a test, started by the router, watched in what Docker tells of them.

All have a label of their own run, so that Docker's events can be asked for exactly these, and are removed by id.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import docker
import httpx
from docker.models.containers import Container

#: Inside the container: llama-server is executed once this file exists.
_GATE = "/gate/open"
_WAIT_AT_GATE = f'until [ -e {_GATE} ]; do sleep 0.02; done; exec llama-server "$@"'
_PERIOD = 100_000
#: Microseconds of processor time in each period: the least that Docker allows, about 60 tokens a second.
_SLOW = 1_000
_NORMAL = 200_000
_NEVER = "0001"
_LABEL = "hearth-test-run"
#: Seconds within which Docker must have told what has happened.
LIMIT = 30.0


def reason_without_llama() -> str:
    """Why llama-server cannot be run in containers here; empty when it can."""
    if missing := [name for name in ("HEARTH_TEST_LLAMA_IMAGE", "HEARTH_TEST_GGUF") if not os.environ.get(name)]:
        return f"{' and '.join(missing)} not set; tests/environment/prepare makes them"
    try:
        docker.from_env().close()
    except docker.errors.DockerException:
        return "no Docker engine answers"
    return ""


@dataclass(frozen=True)
class Happening:
    """One event of Docker. action: `start` or `die`."""

    engine: str
    action: str


class Llama:
    """One engine: its container, and what llama-server itself says."""

    def __init__(self, container: Container, port: int) -> None:
        self._container = container
        self.container_name = str(container.name)
        self.id = str(container.id)
        self._metrics = f"http://127.0.0.1:{port}/metrics"

    # --- what Docker says

    def state(self) -> dict[str, Any]:
        self._container.reload()
        state: dict[str, Any] = self._container.attrs["State"]
        return state

    @property
    def runs(self) -> bool:
        return bool(self.state()["Running"])

    @property
    def started_at(self) -> str:
        """When it was last started; empty if never."""
        moment = str(self.state()["StartedAt"])
        return "" if moment.startswith(_NEVER) else moment

    # --- what a person does by hand

    def start(self) -> None:
        self._container.start()

    def stop(self) -> None:
        self._container.stop(timeout=5)

    def kill(self) -> None:
        self._container.kill("SIGKILL")

    def slow_down(self) -> None:
        """Let a running engine take so little processor time that an answer of a thousand tokens takes seconds."""
        self._container.update(cpu_period=_PERIOD, cpu_quota=_SLOW)

    def speed_up(self) -> None:
        self._container.update(cpu_period=_PERIOD, cpu_quota=_NORMAL)

    def remove(self) -> None:
        self._container.remove(force=True)

    # --- what the engine says

    async def running(self) -> int:
        """How many requests it computes now; 0 when it is not there."""
        try:
            return await self._count("requests_processing") + await self._count("requests_deferred")
        except httpx.TransportError:
            return 0

    async def tokens_made(self) -> int:
        """Tokens of finished answers since its start."""
        return await self._count("tokens_predicted_total")

    async def _count(self, name: str) -> int:
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            text = (await client.get(self._metrics)).raise_for_status().text
        (line,) = [line for line in text.splitlines() if line.startswith(f"llamacpp:{name} ")]
        return int(float(line.split()[1]))


class Journal:
    """What Docker tells of the containers with one label, read as it happens: its own memory holds only the last few
    hundred events of the whole machine."""

    def __init__(self, client: Any, label: str, value: str) -> None:
        # a container that is renamed to mark a moment: what came before its event has been read
        self._mark = client.containers.create(os.environ["HEARTH_TEST_LLAMA_IMAGE"], labels={label: value})
        self._marks = 0
        self._events: list[dict[str, Any]] = []
        self._grown = threading.Condition()
        filters = {"type": "container", "label": f"{label}={value}"}
        self._stream = client.events(since=_moment(time.time_ns()), filters=filters, decode=True)
        self._reader = threading.Thread(target=self._read, name="docker-journal", daemon=True)
        self._reader.start()

    def read(self) -> list[dict[str, Any]]:
        """All events until now."""
        self._marks += 1
        name = f"mark-{self._mark.short_id}-{self._marks}"
        self._mark.rename(name)
        with self._grown:
            read = self._grown.wait_for(lambda: name in (_name(event) for event in self._events), LIMIT)
            assert read, "Docker's event stream has ended"
            return [event for event in self._events if event["Actor"]["ID"] != self._mark.id]

    def close(self) -> None:
        self._stream.close()
        self._reader.join(LIMIT)
        self._mark.remove()

    def _read(self) -> None:
        for event in self._stream:
            with self._grown:
                self._events.append(event)
                self._grown.notify_all()


class LlamaFleet:
    """All containers of one run."""

    def __init__(self) -> None:
        self.client: Any = docker.from_env()  # the types know only whole seconds
        self.run = f"hearth-test-{secrets.token_hex(4)}"
        self.engines: dict[str, Llama] = {}
        self._journal = Journal(self.client, _LABEL, self.run)

    def container_name(self, engine: str) -> str:
        return f"{self.run}-{engine}"

    def create(self, engine: str, port: int, *arguments: str, gate: Path | None = None) -> Llama:
        """Make the container of an engine and do not start it. gate: a directory; the engine begins to load when there
        is a file `open` in it."""
        gguf = Path(os.environ["HEARTH_TEST_GGUF"])
        command = ["-m", f"/models/{gguf.name}", "--host", "0.0.0.0", "--port", "8000", "--alias", engine]
        command += ["--ctx-size", "8192", "--parallel", "4", "--threads", "1", "--metrics", "--jinja", *arguments]
        volumes = [f"{gguf.parent}:/models:ro"]
        options: dict[str, Any] = {}
        if gate is not None:
            options = {"entrypoint": ["sh", "-c", _WAIT_AT_GATE, "llama-server"]}
            volumes.append(f"{gate}:/gate:ro")
        container = self.client.containers.create(
            os.environ["HEARTH_TEST_LLAMA_IMAGE"],
            command,
            name=self.container_name(engine),
            labels={_LABEL: self.run},
            ports={"8000/tcp": ("127.0.0.1", port)},
            volumes=volumes,
            init=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            mem_limit="256m",
            **options,
        )
        self.engines[engine] = Llama(container, port)
        return self.engines[engine]

    def happenings(self, since: int) -> list[Happening]:
        """Starts and ends of this run's containers after `since` (nanoseconds), as Docker tells them, in order."""
        names = {engine.id: name for name, engine in self.engines.items()}
        happened = []
        for event in self._journal.read():
            if event["Action"] in ("start", "die") and event["timeNano"] > since:
                happened.append(Happening(names[event["Actor"]["ID"]], event["Action"]))
        return happened

    def everything(self, engine: str) -> list[str]:
        """All that was ever done to one engine's container, of whatever kind."""
        return [event["Action"] for event in self._journal.read() if event["Actor"]["ID"] == self.engines[engine].id]

    def actions(self, engine: str, since: int) -> list[str]:
        """What happened to one engine: `start` and `die`, in their order."""
        return [happening.action for happening in self.happenings(since) if happening.engine == engine]

    def require_never_together(self, one: str, other: str, since: int) -> int:
        """Fails unless each start of either came when the other had ended. Returns how often they changed places.

        Both were asleep at `since`."""
        happened = [happening for happening in self.happenings(since) if happening.engine in (one, other)]
        running: set[str] = set()
        for happening in happened:
            if happening.action == "die":
                running.discard(happening.engine)
                continue
            assert not running, f"{happening.engine} was started while {running} ran: {happened}"
            running.add(happening.engine)
        starts = [happening.engine for happening in happened if happening.action == "start"]
        return sum(first != second for first, second in pairwise(starts))

    def close(self) -> None:
        """Remove what was made."""
        for engine in self.engines.values():
            engine.remove()
        self._journal.close()
        self.client.close()


def _name(event: dict[str, Any]) -> str:
    return str(event["Actor"]["Attributes"].get("name"))


def _moment(nanoseconds: int) -> str:
    """A time as Docker takes it: seconds with nine decimals."""
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
