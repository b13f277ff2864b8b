"""Children and their supervision, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from router.supervisor.child import Child, Part, last_lines, rotate
from router.supervisor.failures import PartFailed
from router.supervisor.master_key import MasterKey
from router.supervisor.parts import Listening, parts, redis_program
from router.supervisor.state_directory import StateDirectory
from router.supervisor.supervision import Supervision, restart_delay

LIMIT = 20.0


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110 - what it waits for is in other processes
            await asyncio.sleep(0.02)


def shell(name: str, script: str, directory: Path, *, grace: float = 10.0) -> Part:
    """A part that is ready when it has made the file DIRECTORY/NAME."""
    mark = directory / name

    async def ready() -> bool:
        return mark.exists()

    environment = {**os.environ, "MARK": str(mark)}
    return Part(name, ("bash", "-c", script), environment, directory / f"{name}.log", ready, grace)


class Notes:
    """An observer that writes down what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def begin(self, part: str, doing: str) -> None:
        self.lines.append(f"{part} {doing}")

    def finish(self, part: str, outcome: str) -> None:
        self.lines.append(f"{part} {outcome}")

    def tell(self, text: str) -> None:
        self.lines.append(text)


@asynccontextmanager
async def running(part: Part) -> AsyncIterator[Child]:
    child = Child(part)
    await child.start()
    try:
        yield child
    finally:
        child.kill()
        await child.wait()


async def test_a_child_leads_its_own_session_and_stops_when_asked(tmp_path: Path) -> None:
    async with running(
        shell("one", "trap 'exit 7' TERM; touch $MARK; while :; do sleep 0.05; done", tmp_path)
    ) as child:
        assert await child.until_ready()
        assert child.pid is not None
        assert os.getsid(child.pid) == child.pid
        await child.stop()
        assert child.describe_end() == "exit code 7"


async def test_a_child_that_will_not_stop_is_killed_with_its_own_children(tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 1000 & touch $MARK; while :; do sleep 0.05; done"
    async with running(shell("deaf", script, tmp_path, grace=0.1)) as child:
        assert await child.until_ready()
        family = psutil.Process(child.pid).children(recursive=True)
        await child.stop()
        assert child.describe_end() == "killed by SIGKILL"
        await until(lambda: not [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE])


async def test_a_child_that_ends_is_never_ready(tmp_path: Path) -> None:
    async with running(shell("short", "exit 3", tmp_path)) as child:
        assert not await child.until_ready()
        assert child.describe_end() == "exit code 3"


def test_children_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import asyncio, os, sys; from pathlib import Path\n"
        "from router.supervisor.child import Child, Part\n"
        "async def never() -> bool: return False\n"
        "async def main():\n"
        "    child = Child(Part('one', ('sleep', '1000'), dict(os.environ), Path(sys.argv[1]), never, 1.0))\n"
        "    await child.start()\n"
        "    print(child.pid, flush=True)\n"
        "    await child.wait()\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        child = psutil.Process(int(supervisor.stdout.readline()))
        assert child.name() == "sleep"
        supervisor.kill()
    assert psutil.wait_procs([child], timeout=LIMIT)[0]


async def test_what_ends_is_started_again(tmp_path: Path) -> None:
    part = shell("one", "echo $$ >> $MARK; exec sleep 1000", tmp_path)
    notes = Notes()
    supervision = Supervision([part], notes)
    await supervision.start()
    keeping = asyncio.create_task(supervision.keep())
    mark = tmp_path / "one"
    try:
        first = int(mark.read_text())
        os.kill(first, signal.SIGKILL)
        await until(lambda: len(mark.read_text().split()) == 2)
        await until(lambda: notes.lines[-1] == "one is up again.")
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await supervision.stop("one")
    assert "one has ended (killed by SIGKILL); it is started again in 0.5s" in notes.lines[2]
    assert [line for line in notes.lines if line.startswith("one st")] == [
        "one starting",
        "one stopping",
        "one stopped",
    ]
    assert not psutil.pid_exists(int(mark.read_text().split()[1]))


async def test_a_part_that_does_not_start_shows_its_last_words(tmp_path: Path) -> None:
    parts = [shell("good", "touch $MARK; exec sleep 1000", tmp_path), shell("bad", "echo last words; exit 4", tmp_path)]
    supervision = Supervision(parts, Notes())
    try:
        with pytest.raises(PartFailed, match="bad did not start: exit code 4") as failure:
            await supervision.start()
    finally:
        await supervision.stop("good")
    assert failure.value.lines == ("last words",)


async def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    part = shell("gone", "", tmp_path)
    missing = Part(part.name, (str(tmp_path / "nothing"),), part.environment, part.log, part.ready, 1.0)
    with pytest.raises(PartFailed, match="gone did not start"):
        await Supervision([missing], Notes()).start()


def test_delays_grow_to_a_limit() -> None:
    assert [restart_delay(failures) for failures in (0, 1, 2, 5, 6, 10**6)] == [0.5, 1.0, 2.0, 16.0, 30.0, 30.0]


def test_one_older_log_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "one.log"
    for run in ("first", "second", "third"):
        rotate(log)
        log.write_text(f"{run}\n1\n2\n")
    assert last_lines(log, 2) == ("1", "2")
    assert last_lines(tmp_path / "one.log.1", 9)[0] == "second"
    assert last_lines(tmp_path / "none", 9) == ()
    assert {path.name for path in tmp_path.iterdir()} == {"one.log", "one.log.1"}


async def test_redis_is_private_and_keeps_its_data(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    try:
        redis, _, _ = parts(tmp_path / "config.yaml", Listening("127.0.0.1", 1), state, MasterKey("sk", None))
        answers = []
        for command in (b"SET a 1\r\n", b"GET a\r\n"):
            async with running(redis) as child:
                assert await child.until_ready()
                assert not psutil.Process(child.pid).net_connections("inet")
                assert state.socket("redis").stat().st_mode & 0o077 == 0
                reader, writer = await asyncio.open_unix_connection(state.socket("redis"))
                writer.write(command)
                answers.append((await reader.readline()).strip())
                writer.close()
                await writer.wait_closed()
                await child.stop()
        assert answers == [b"+OK", b"$1"]
    finally:
        state.close()


def test_the_admin_key_is_given_to_the_gateway_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_MASTER_KEY", "sk-of-the-environment")
    state = StateDirectory(tmp_path)
    try:
        made = parts(tmp_path / "config.yaml", Listening("127.0.0.1", 1), state, MasterKey("sk-of-all", None))
    finally:
        state.close()
    found = {part.name: part.environment.get("LITELLM_MASTER_KEY") for part in made}
    assert found == {"redis": None, "router": None, "gateway": "sk-of-all"}


def test_redis_is_found_without_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert redis_program() == str(Path(sys.executable).parent / "redis-server")
    own = tmp_path / "redis-server"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    assert redis_program() == str(own)
