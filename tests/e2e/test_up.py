"""`hearth up` as a person uses it: the demo, started in a terminal's stead, used by its own curl line, and ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from stack import ROOT, free_port, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

HEARTH = str(Path(sys.executable).parent / "hearth")
LIMIT = 120.0


class Up:
    """One `hearth up` on a copy of the demo, and later ones on the same state directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.config = directory / "demo.yaml"
        text = (ROOT / "examples" / "demo.yaml").read_text()
        self.config.write_text(re.sub(r"\b(1810\d)\b", lambda found: str(self._port_for(found[1])), text))
        self.state = directory / ".hearth"
        self.port = free_port()
        self.mark = f"HEARTH_TEST_MARK={uuid.uuid4()}"
        name, _, value = self.mark.partition("=")
        kept = {key: text for key, text in os.environ.items() if not key.startswith(("HEARTH_", "LITELLM_"))}
        self.environment = kept | {name: value, "XDG_STATE_HOME": str(directory / "xdg")}
        self.family: dict[int, psutil.Process] = {}
        self._runs = 0

    def _port_for(self, port: str, ports: dict[str, int] = {}) -> int:  # noqa: B006 - remembers within one test run
        return ports.setdefault(f"{self._directory} {port}", free_port())

    @property
    def output(self) -> str:
        return (self._directory / f"up-{self._runs}.txt").read_text()

    def start(self) -> None:
        """Returns when it says that it is up."""
        self._runs += 1
        with (self._directory / f"up-{self._runs}.txt").open("wb") as output:
            self.process = subprocess.Popen(
                [HEARTH, "up", "--config", str(self.config), "--port", str(self.port)],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until(lambda: "Ctrl-C stops everything" in self.output or self.process.poll() is not None, "hearth up", LIMIT)
        assert self.process.poll() is None, self.output

    def command(self, *arguments: str) -> str:
        """Another command, in another terminal; its output."""
        done = subprocess.run(
            [HEARTH, *arguments], env=self.environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )
        assert done.returncode == 0, done.stderr + self.output
        return done.stdout

    def models(self) -> dict[str, Any]:
        return {model["name"]: model for model in json.loads(self.command("status", "--json"))["models"]}

    def healthy(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=5, trust_env=False).status_code == 200
        return False

    def part(self, name: str) -> psutil.Process:
        """A child of the supervisor, by a word of its command line."""
        children = psutil.Process(self.process.pid).children()
        [found] = [child for child in children if any(name in word for word in child.cmdline())]
        return found

    def remember(self) -> None:
        """Take note of all processes that are there now."""
        for process in [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]:
            self.family[process.pid] = process
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if f"{self.mark}\0".encode() in Path(f"/proc/{process.pid}/environ").read_bytes():
                    self.family[process.pid] = process

    def left(self) -> list[str]:
        """What is still there of the processes that were noted, and of those that carry the mark."""
        found = dict(self.family)
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if f"{self.mark}\0".encode() in Path(f"/proc/{process.pid}/environ").read_bytes():
                    found[process.pid] = process
        alive = []
        for process in found.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(f"{process.pid} {' '.join(process.cmdline())}")
        return alive

    def finish(self) -> None:
        """For a test that failed: leave nothing."""
        if hasattr(self, "process"):
            with contextlib.suppress(psutil.Error):
                self.remember()
            self.process.kill()
            self.process.wait()
        for process in self.family.values():
            with contextlib.suppress(psutil.Error):
                process.kill()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path)
    try:
        yield up
    finally:
        up.finish()


def curl(up: Up, *options: str) -> subprocess.CompletedProcess[str]:
    """The line that was shown, pasted into a shell."""
    [line] = [line for line in up.output.splitlines() if line.startswith("curl ")]
    script = " ".join([line, "--silent", "--show-error", *options])
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=LIMIT, check=True)


def ended(up: Up) -> Callable[[], bool]:
    return lambda: up.process.poll() is not None


def test_the_demo_works_as_told_and_leaves_no_process(up: Up) -> None:
    up.start()
    answer = json.loads(curl(up).stdout)
    assert answer["choices"][0]["message"]["content"]
    assert up.models()["demo-small"]["phase"] == "ready"
    key_file = up.state / "master-key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert f"The admin key is in {key_file}" in up.output

    assert "demo-medium is ready" in up.command("wake", "demo-medium", "--wait")
    assert "demo-small" in up.command("models")
    assert "demo-medium" in up.command("events", "--no-follow")
    assert "demo-medium" in up.command("logs", "demo-medium")
    assert "demo-medium is asleep" in up.command("sleep", "demo-medium", "--wait")

    for part in ("redis-server", "router", "plugins.gateway"):
        gone = up.part(part)
        gone.kill()
        until(lambda gone=gone: not gone.is_running(), f"{part} is gone", LIMIT)  # type: ignore[misc]
        until(up.healthy, f"{part} is back", LIMIT)
    assert up.models()["demo-small"]["phase"] == "ready"

    up.remember()
    assert len(up.family) >= 5  # the supervisor, its three parts and an engine
    up.process.send_signal(signal.SIGINT)
    until(ended(up), "the end", LIMIT)
    assert up.process.returncode == 0, up.output
    until(lambda: not up.left(), f"nothing is left of {up.left()}")
    assert "engine: stopped" in up.output


def test_a_killed_supervisor_leaves_engines_that_the_next_one_takes_up(up: Up) -> None:
    up.start()
    curl(up)
    engine = json.loads((up.state / "engines" / "demo-small.json").read_text())["pid"]
    key = (up.state / "master-key").read_text()
    up.remember()
    up.process.kill()
    up.process.wait()

    up.start()
    assert (up.state / "master-key").read_text() == key
    assert (up.state / "logs" / "gateway.log.1").exists()
    assert psutil.pid_exists(engine)
    curl(up)
    assert json.loads((up.state / "engines" / "demo-small.json").read_text())["pid"] == engine

    # A long answer keeps the gateway from ending; a second Ctrl-C does not wait for it.
    body = {
        "model": "demo-small",
        "stream": True,
        "max_tokens": 4000,
        "messages": [{"role": "user", "content": "Go on"}],
    }
    headers = {"Authorization": f"Bearer {key.strip()}"}
    address = f"http://127.0.0.1:{up.port}/v1/chat/completions"
    up.remember()
    with httpx.stream("POST", address, json=body, headers=headers, timeout=LIMIT, trust_env=False) as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith("data:"))
        up.process.send_signal(signal.SIGINT)
        until(lambda: "gateway: stopping" in up.output, "the stop has begun")
        up.process.send_signal(signal.SIGINT)
        with contextlib.suppress(httpx.HTTPError):
            assert "data: [DONE]" not in list(lines)
    until(ended(up), "the end", LIMIT)
    assert up.process.returncode == 0, up.output
    until(lambda: not up.left(), f"nothing is left of {up.left()}")
