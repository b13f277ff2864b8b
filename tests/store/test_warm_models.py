"""Models to keep warm: a router that acts on a scripted runtime loads them and gives them up."""

from __future__ import annotations

import fleet
from eventually import eventually
from stage import Stage

from router.schedule import Schedule
from router.scheduling.gaps import HORIZON
from router.store.state import Phase

A, B = fleet.spec("a", 6), fleet.spec("b", 6)
SMALL = fleet.spec("small", 3)


async def left_alone(stage: Stage, name: str, seconds: float) -> None:
    """As if a model had been used last so long ago, and loaded before that."""
    ago = round(await stage.store.now_ms() - 1000 * seconds)
    await stage.store.ask(name, {"last_used": ago, "ready_at": ago - 1}, "asked-touch")


async def why(stage: Stage, name: str) -> list[str]:
    """Why a model was started, each time."""
    found = await stage.store.events("-", count=1000)
    return [each["detail"] for each in found if each["event"] == "starting" and each["model"] == name]


async def test_preloads_are_ready_before_anybody_asks_and_come_back_after_another_was_used(stage: Stage) -> None:
    await stage.router(A, fleet.spec("b", 6, idle_timeout=0.2), SMALL, preload=["a", "small"])
    await stage.until("a", Phase.READY)
    await stage.until("small", Phase.READY)
    call = await stage.ask("b").granted()
    assert stage.machine.running == {"b", "small"}, "only what is in the way leaves"
    call.end()
    await stage.until("a", Phase.READY)
    assert await why(stage, "a") == ["preload", "preload"]
    assert stage.machine.count("start", "b") == 1
    assert stage.machine.count("start", "small") == 1


async def test_preload_under_way_is_broken_off_for_who_waits(stage: Stage) -> None:
    await stage.router(A, B, preload=["a"])
    stage.machine.engines["a"].ready = False
    await eventually(lambda: stage.machine.engines["a"].running, "it loads")
    call = await stage.ask("b").granted()
    assert stage.machine.running == {"b"}
    call.end()


async def test_preload_stays_though_nobody_uses_it_and_sleeps_when_an_admin_says_so(stage: Stage) -> None:
    await stage.router(fleet.spec("a", 6, idle_timeout=0.05), fleet.spec("idle", 3, idle_timeout=0.05), preload=["a"])
    await stage.until("a", Phase.READY)
    (await stage.ask("idle").granted()).end()
    await stage.until("idle", Phase.ASLEEP)
    assert (await stage.model("a")).phase is Phase.READY
    await stage.store.ask("a", {"sleep": "drain", "wanted": ""}, "asked-sleep")
    await stage.until("a", Phase.ASLEEP)
    (await stage.ask("idle").granted()).end()
    await stage.until("idle", Phase.ASLEEP)
    assert stage.machine.running == set(), "it holds"
    (await stage.ask("a").granted()).end()
    assert (await stage.model("a")).sleep == ""


async def test_default_model_returns_when_the_box_was_left_alone(stage: Stage) -> None:
    await stage.router(A, fleet.spec("b", 6, idle_timeout=0.0), default_model="a", default_after=600.0)
    await stage.until("a", Phase.READY)
    (await stage.ask("b").granted()).end()
    await stage.until("a", Phase.ASLEEP)
    await left_alone(stage, "a", 3000.0)
    await left_alone(stage, "b", 700.0)
    await stage.until("a", Phase.READY)
    assert (await stage.model("b")).phase is Phase.ASLEEP
    assert await why(stage, "a") == ["default", "default"]


async def test_schedule_makes_an_idle_model_leave(stage: Stage) -> None:
    always = Schedule.model_validate({"model": "a", "cron": "* * * * *", "for": "1h"})
    router = await stage.router(A, fleet.spec("b", 6, idle_timeout=0.0))
    (await stage.ask("b").granted()).end()
    await router.stop()
    await left_alone(stage, "b", HORIZON + 60.0)
    await stage.router(A, fleet.spec("b", 6, idle_timeout=0.0), schedules=[always])
    await stage.until("a", Phase.READY)
    assert await why(stage, "a") == ["schedule"]
    assert stage.machine.running == {"a"}
