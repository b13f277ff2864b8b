"""The lifecycle of real engines in real containers, through gateway and router: llama-server, started by Docker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from llama_machine import Machine
from observer import Observer, deltas, first_line, until
from stack import LIMIT

pytestmark = pytest.mark.docker

#: Long enough to be still under way when something is done to it, on an engine that was slowed down.
_LONG = {"max_tokens": 1200, "ignore_eos": True}


class Box:
    """What one test works with. since: when it began, in nanoseconds."""

    def __init__(self, machine: Machine, hearth: Observer) -> None:
        self.machine = machine
        self.fleet = machine.fleet
        self.hearth = hearth
        self.since = time.time_ns()

    def actions(self, name: str) -> list[str]:
        return self.fleet.actions(name, self.since)

    async def settle(self) -> None:
        """Nobody waits, nothing runs, nothing fails any more."""
        for name, model in (await self.hearth.models()).items():
            engine = self.fleet.engines.get(name)
            if model["phase"] == "ready" and engine is not None:
                engine.speed_up()
            if model["phase"] not in ("asleep", "failed"):
                assert (await self.hearth.act(name, "sleep", force=True)).status_code == 200
                await self.hearth.until_phase(name, "asleep", "failed")

    async def until_over(self, name: str, action: str, count: int) -> None:
        """Until Docker has told of this event that many times in this test."""

        async def told() -> bool:
            return self.actions(name).count(action) >= count

        await until(told, f"{name}: {count} x {action}; it was {self.actions(name)}")

    async def until_usable(self, name: str) -> None:
        """Until the model is not left alone any more after a failure."""

        async def usable() -> bool:
            return (await self.hearth.model(name))["retry_at"] is None

        await until(usable, f"{name} may be started again")

    @asynccontextmanager
    async def slow_stream(self, name: str, **body: Any) -> AsyncIterator[httpx.Response]:
        """A stream from an engine that is awake, slowed down, its first part read."""
        self.fleet.engines[name].slow_down()
        async with self.hearth.stream(name, **{**_LONG, **body}) as stream:
            await first_line(stream, "data: ")
            yield stream

    async def finish(self, stream: httpx.Response, name: str) -> None:
        """The rest of a slow stream at full speed: it must end as it should."""
        self.fleet.engines[name].speed_up()
        assert reasons(await deltas(stream)) == ["length"]


def reasons(events: list[dict[str, Any]]) -> list[str]:
    """Why a stream ended, by its events; empty when it was cut off."""
    found = [choice.get("finish_reason") for event in events for choice in event.get("choices", [])]
    return [reason for reason in found if reason]


@pytest.fixture
async def box(machine: Machine) -> AsyncIterator[Box]:
    """The running stack with all engines asleep; so it is left."""
    async with Observer(machine.stack) as hearth:
        box = Box(machine, hearth)
        yield box
        await box.settle()
    machine.fleet.require_never_together("left", "right", box.since)


async def test_a_request_wakes_its_container(box: Box) -> None:
    engine = box.fleet.engines["small"]
    assert (engine.runs, engine.started_at) == (False, "")
    async with box.hearth.stream("small", max_tokens=4) as stream:
        assert stream.status_code == 200
        assert (await first_line(stream, ": hearth")).startswith(": hearth: small is ")
        assert await deltas(stream)
    assert engine.runs
    assert box.actions("small") == ["start"]


async def test_thirty_callers_start_it_once(box: Box) -> None:
    answers = await asyncio.gather(*(box.hearth.chat("small", max_tokens=4) for _ in range(30)))
    assert [answer.status_code for answer in answers] == [200] * 30
    assert all(answer.json()["usage"]["completion_tokens"] > 0 for answer in answers)
    assert box.actions("small") == ["start"]


async def test_a_swap_lets_the_running_stream_finish(box: Box) -> None:
    await box.hearth.wake("small")
    await box.hearth.wake("left")
    beside = box.fleet.engines["small"].started_at
    async with box.slow_stream("left") as stream:
        other = asyncio.create_task(box.hearth.chat("right", max_tokens=4))
        await box.hearth.until_phase("left", "draining")
        assert box.actions("right") == []
        assert await box.fleet.engines["left"].running() == 1
        await box.finish(stream, "left")
    assert (await other).status_code == 200
    assert box.actions("left") == ["start", "die"]
    assert box.fleet.require_never_together("left", "right", box.since) == 1
    assert box.fleet.engines["small"].started_at == beside, "what fits beside both is left alone"


async def test_models_that_do_not_fit_never_run_together(box: Box) -> None:
    for _ in range(3):
        answers = await asyncio.gather(*(box.hearth.chat(name, max_tokens=4) for name in ("left", "right") * 3))
        assert [answer.status_code for answer in answers] == [200] * 6
    assert box.fleet.require_never_together("left", "right", box.since) >= 3


async def test_idle_is_counted_from_the_end_of_the_last_request(box: Box) -> None:
    await box.hearth.wake("brief")
    async with box.slow_stream("brief", max_tokens=60) as stream:  # takes longer than the idle timeout
        assert reasons(await deltas(stream)) == ["length"], "the engine is not stopped under it"
    await box.hearth.until_phase("brief", "asleep")
    await box.until_over("brief", "die", 1)
    assert box.actions("brief") == ["start", "die"]


async def test_a_client_that_leaves_mid_stream_stops_the_generation(box: Box) -> None:
    await box.hearth.wake("small")
    engine = box.fleet.engines["small"]
    async with box.slow_stream("small"):
        assert await engine.running() == 1

    async def stopped() -> bool:
        return await engine.running() == 0 and not await box.hearth.requests()

    await until(stopped, "the engine computes nothing any more, and no lease is left")
    assert await engine.tokens_made() < _LONG["max_tokens"]
    assert (await box.hearth.chat("small", max_tokens=4)).status_code == 200


async def test_a_container_that_ends_while_it_loads_fails_its_callers(box: Box) -> None:
    await box.until_usable("broken")
    # the start timeout is fifteen minutes: callers do not wait for it
    answers = await asyncio.gather(*(box.hearth.chat("broken") for _ in range(5)))
    for answer in answers:
        assert answer.status_code == 503
        error = answer.json()["error"]
        assert error["type"] == "model_failed"
        assert "it ended while it loaded (exit code 1)" in error["message"]
        assert "--no-such-argument" in error["message"], "an admin reads the engine's last lines"
        assert int(answer.headers["retry-after"]) >= 1
    again = await box.hearth.chat("broken")
    assert again.status_code == 503
    assert "exit code 1" in again.json()["error"]["message"]
    assert box.actions("broken") == ["start", "die"], "it cools down"
    assert (await box.hearth.model("broken"))["phase"] == "failed"
    await box.until_usable("broken")
    assert (await box.hearth.chat("broken")).status_code == 503
    assert box.actions("broken") == ["start", "die"] * 2, "and is tried again after that"


async def test_a_missing_container_is_named(box: Box) -> None:
    answer = await box.hearth.chat("missing")
    assert answer.status_code == 503
    message = answer.json()["error"]["message"]
    assert f"No such container: {box.fleet.container_name('missing')}" in message
    assert "create it first, with: docker compose" in message


async def test_a_killed_container_is_noticed_and_woken_again(box: Box) -> None:
    await box.hearth.wake("small")
    async with box.slow_stream("small") as stream:
        box.fleet.engines["small"].kill()
        rest = await deltas(stream)
    assert "length" not in reasons(rest)
    await box.hearth.until_phase("small", "failed")
    assert "exit code 137" in (await box.hearth.model("small"))["error"]
    await box.until_usable("small")
    assert (await box.hearth.chat("small", max_tokens=4)).status_code == 200
    assert box.actions("small") == ["start", "die", "start"]


async def test_a_stop_by_hand_is_noticed(box: Box) -> None:
    await box.hearth.wake("small")
    box.fleet.engines["small"].stop()
    await box.hearth.until_phase("small", "asleep", "failed")
    await box.until_usable("small")
    assert (await box.hearth.chat("small", max_tokens=4)).status_code == 200
    assert box.actions("small") == ["start", "die", "start"]


async def test_a_start_by_hand_is_adopted_when_it_fits(box: Box) -> None:
    await box.hearth.wake("left")
    async with box.hearth.event_log() as events:
        box.fleet.engines["small"].start()
        await box.hearth.until_phase("small", "ready")
    assert [event["event"] for event in events if event["model"] == "small"] == ["adopted", "ready"]
    assert (await box.hearth.chat("small", max_tokens=4)).status_code == 200
    assert box.actions("small") == ["start"]
    assert (await box.hearth.model("left"))["phase"] == "ready"


async def test_a_start_by_hand_is_stopped_when_it_does_not_fit(box: Box) -> None:
    await box.hearth.wake("left")
    async with box.slow_stream("left") as stream:
        box.fleet.engines["right"].start()
        await box.until_over("right", "die", 1)
        await box.hearth.until_phase("right", "asleep")
        await box.finish(stream, "left")
    assert box.actions("left") == ["start"]
    box.since = time.time_ns()  # a person has made them run together: that much is allowed


async def test_a_router_killed_during_a_load_adopts_it(box: Box) -> None:
    waiting = asyncio.create_task(box.hearth.chat("held", max_tokens=4))
    await box.until_over("held", "start", 1)
    box.machine.stack.router.kill()
    box.machine.stack.router.start()
    (box.machine.gate / "open").touch()
    assert (await waiting).status_code == 200
    assert box.actions("held") == ["start"]
    assert (await box.hearth.model("held"))["phase"] == "ready"


async def test_what_the_configuration_does_not_name_is_not_touched(box: Box) -> None:
    bystander = box.fleet.engines["bystander"]
    before = bystander.state()
    await asyncio.gather(*(box.hearth.chat(name, max_tokens=4) for name in ("left", "right", "small")))
    await box.settle()
    box.machine.stack.router.stop()
    box.machine.stack.router.start()
    async with asyncio.timeout(LIMIT):
        assert (await box.hearth.chat("small", max_tokens=4)).status_code == 200
    assert bystander.state() == before
    assert box.fleet.everything("bystander") == ["create", "start"], "from the first test to this one"
