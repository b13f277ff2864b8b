"""Starts: one for everybody who waits, and what becomes of those that fail."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

import httpx
import pytest
from observer import HI, Observer, until
from stack import LIMIT, MASTER_KEY, USER_KEY

pytestmark = pytest.mark.e2e


@pytest.fixture
async def faulty(hearth: Observer) -> AsyncIterator[str]:
    """The name of a model that may be made to fail. It is asleep and has not failed yet; so it is left."""
    hearth.stack.set_options("faulty")
    await hearth.sleep("faulty")
    yield "faulty"
    hearth.stack.set_options("faulty")
    await hearth.sleep("faulty")


async def test_one_start_serves_fifty_callers(hearth: Observer) -> None:
    await hearth.sleep("small")
    hearth.stack.set_options("small", "--load-seconds 2")
    starts = len(hearth.stack.starts("small"))
    answers = [asyncio.create_task(hearth.chat("small", stream=number % 2 == 0)) for number in range(50)]
    assert [answer.status_code for answer in await asyncio.gather(*answers)] == [200] * 50
    assert len(hearth.stack.starts("small")) == starts + 1
    assert len(await hearth.engines["small"].requests()) == 50


async def test_an_engine_that_dies_while_loading_fails_everyone_at_once(hearth: Observer, faulty: str) -> None:
    hearth.stack.set_options(faulty, "--fault exit-while-loading=3@1")
    starts = len(hearth.stack.starts(faulty))
    answers = [asyncio.create_task(hearth.chat(faulty)) for _ in range(10)]
    # "at once": well within the start timeout, after which they would fail too
    async with asyncio.timeout(LIMIT / 2):
        for answer in await asyncio.gather(*answers):
            assert answer.status_code == 503
            error = answer.json()["error"]
            assert error["type"] == "model_failed"
            assert "exit code 3" in error["message"]
            assert "Engine core initialization failed" in error["message"], "an admin reads the engine's last lines"
            assert answer.headers["x-hearth-model"] == faulty
            assert answer.headers["x-hearth-phase"] == "failed"
            assert int(answer.headers["retry-after"]) >= 1
    assert len(hearth.stack.starts(faulty)) == starts + 1
    assert (await hearth.phases())[faulty] == "failed"


async def test_log_lines_are_for_admins(hearth: Observer, faulty: str) -> None:
    hearth.stack.set_options(faulty, "--fault exit-while-loading=3")
    user = {"Authorization": f"Bearer {USER_KEY}"}
    fresh = await hearth.chat(faulty, headers=user)
    cooling = await hearth.chat(faulty, headers=user)
    for answer in (fresh, cooling):
        assert answer.status_code == 503
        assert "exit code 3" in answer.json()["error"]["message"]
        assert "Engine core" not in answer.text
    for headers, shown in ((user, False), ({"Authorization": f"Bearer {MASTER_KEY}"}, True)):
        models = (await hearth.http.get("/lifecycle/models", headers=headers)).json()["models"]
        (view,) = [model for model in models if model["name"] == faulty]
        assert "exit code 3" in view["error"]
        assert bool(view["log"]) is shown
        logs = await hearth.http.get(f"/lifecycle/models/{faulty}/logs", headers=headers)
        assert ("Engine core" in logs.text) is shown
        assert logs.status_code == (200 if shown else 403)


async def test_a_user_cannot_act_on_models(hearth: Observer, faulty: str) -> None:
    for action in ("wake", "sleep", "touch", "pin", "unpin"):
        path, headers = f"/lifecycle/models/{faulty}/{action}", {"Authorization": f"Bearer {USER_KEY}"}
        assert (await hearth.http.post(path, headers=headers)).status_code == 403
    assert (await hearth.phases())[faulty] == "asleep"


async def test_a_user_sees_their_own_requests_only(hearth: Observer) -> None:
    await hearth.wake("small")
    await hearth.engines["small"].faults("hang-before-first-token")
    user = {"Authorization": f"Bearer {USER_KEY}"}
    mine = hearth.http.build_request("POST", "/v1/chat/completions", json={"model": "small", "messages": HI})
    theirs = hearth.http.build_request(
        "POST", "/v1/chat/completions", json={"model": "small", "messages": HI}, headers=user
    )
    async with hearth.asking(mine), hearth.asking(theirs):
        await hearth.until_running("small", 2)
        assert len((await hearth.http.get("/lifecycle/requests")).json()["requests"]) == 2
        (seen,) = (await hearth.http.get("/lifecycle/requests", headers=user)).json()["requests"]
        assert seen["alias"] == "a user"


async def test_a_failed_model_is_left_alone_for_growing_times(hearth: Observer, faulty: str) -> None:
    hearth.stack.set_options(faulty, "--fault exit-while-loading=7")
    starts = len(hearth.stack.starts(faulty))
    delays = []
    async with hearth.event_log() as events:
        for round_number in range(1, 4):
            first = await hearth.chat(faulty)
            refused = await hearth.chat(faulty)
            assert first.status_code == refused.status_code == 503
            assert len(hearth.stack.starts(faulty)) == starts + round_number, "nothing starts while it cools down"
            await until_failures(events, faulty, round_number)
            delays.append(float(events_of(events, faulty, "failed")[-1]["retry_in_ms"]) / 1000)
            assert int(first.headers["retry-after"]) == math.ceil(delays[-1])
            assert 1 <= int(refused.headers["retry-after"]) <= math.ceil(delays[-1])
            # Retry-After is true: whoever comes back then is not refused for the cooldown
            await asyncio.sleep(int(refused.headers["retry-after"]))
    assert delays == [1, 2, 2], "doubled, up to the longest"


async def test_a_cooldown_ends_with_a_successful_start(hearth: Observer, faulty: str) -> None:
    hearth.stack.set_options(faulty, "--fault exit-while-loading=7")
    refused = await hearth.chat(faulty)
    assert refused.status_code == 503
    hearth.stack.set_options(faulty)
    await asyncio.sleep(int(refused.headers["retry-after"]))
    assert (await hearth.chat(faulty)).status_code == 200
    view = await hearth.model(faulty)
    assert (view["phase"], view["error"], view["retry_at"], view["log"]) == ("ready", "", None, [])


async def test_an_admin_ends_a_cooldown(hearth: Observer, faulty: str) -> None:
    hearth.stack.set_options(faulty, "--fault exit-while-loading=7")
    assert (await hearth.chat(faulty)).status_code == 503
    hearth.stack.set_options(faulty)
    assert (await hearth.act(faulty, "wake")).status_code == 200
    await hearth.until_phase(faulty, "ready")


async def test_a_start_that_takes_too_long_is_given_up(hearth: Observer) -> None:
    hearth.stack.set_options("hasty", "--fault never-ready")
    answer = await hearth.chat("hasty")
    assert answer.status_code == 503
    assert "not healthy within 1.5s" in answer.json()["error"]["message"]
    await hearth.until_phase("hasty", "failed")
    assert hearth.stack.engine_process("hasty") is None, "what was given up does not go on loading"
    hearth.stack.set_options("hasty")
    await hearth.wake("hasty")


async def test_an_engine_that_cannot_be_run_fails_with_a_reason(hearth: Observer) -> None:
    answer = await hearth.chat("missing")
    assert answer.status_code == 503
    assert "cannot be run" in answer.json()["error"]["message"]
    assert (await hearth.phases())["missing"] == "failed"


async def test_an_engine_that_dies_when_ready_is_noticed(hearth: Observer, faulty: str) -> None:
    assert (await hearth.chat(faulty)).status_code == 200
    process = hearth.stack.engine_process(faulty)
    assert process is not None
    process.kill()
    await hearth.until_phase(faulty, "failed")
    answer = await hearth.chat(faulty)
    assert answer.status_code == 503
    assert "137" in answer.json()["error"]["message"]


async def until_failures(events: list[dict[str, str]], model: str, count: int) -> None:
    async def reached() -> bool:
        return len(events_of(events, model, "failed")) >= count

    await until(reached, f"{model} has failed {count} times")


def events_of(events: list[dict[str, str]], model: str, kind: str) -> list[dict[str, str]]:
    return [event for event in events if event["model"] == model and event["event"] == kind]


@pytest.mark.parametrize("stream", [False, True])
async def test_callers_who_wait_hear_of_the_failure_in_their_clients_form(
    hearth: Observer, faulty: str, stream: bool
) -> None:
    hearth.stack.set_options(faulty, "--fault exit-while-loading=3@0.6")
    answer: httpx.Response = await hearth.chat(faulty, stream=stream)
    if stream:
        assert answer.status_code == 200
        assert answer.text.startswith(": hearth:")
        assert '"type": "model_failed"' in answer.text
        assert answer.text.endswith("data: [DONE]\n\n")
    else:
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "503"
