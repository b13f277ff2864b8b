"""The dashboard in a real browser, on a real stack."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
from collections.abc import AsyncIterator

import httpx
import pytest
from observer import HI, Observer
from page import Dashboard
from playwright.async_api import expect
from stack import LIMIT, MASTER_KEY, USER_KEY

#: All that the page may load, in bytes.
_MOST = 100_000


@contextlib.asynccontextmanager
async def many(hearth: Observer, model: str, count: int) -> AsyncIterator[None]:
    """So many requests for a model, until the end of the block."""
    async with contextlib.AsyncExitStack() as asked:
        for _ in range(count):
            request = hearth.http.build_request("POST", "/v1/chat/completions", json={"model": model, "messages": HI})
            await asked.enter_async_context(hearth.asking(request))
        yield


@pytest.fixture
async def held(hearth: Observer) -> AsyncIterator[str]:
    """A model that takes so long to load that whoever asks for it waits until the end of the test."""
    await hearth.sleep("beta")
    await hearth.sleep("alpha")
    hearth.stack.set_options("alpha", "--load-seconds 600")
    yield "alpha"
    hearth.stack.set_options("alpha")
    await hearth.sleep("alpha")


async def test_the_page_is_small_and_closed_to_everything_from_outside(dashboard: Dashboard) -> None:
    assert sum(dashboard.served.values()) < _MOST
    assert len(dashboard.served) > 5
    assert all(url.startswith(dashboard.url) for url in dashboard.served)
    policy = dashboard.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert dashboard.headers["x-content-type-options"] == "nosniff"


async def test_a_wrong_key_is_told(dashboard: Dashboard) -> None:
    await dashboard.enter("sk-wrong")
    await expect(dashboard.page.locator("#key-fault")).to_contain_text("not known here")
    await expect(dashboard.page.get_by_label("API key")).to_be_focused()
    assert await dashboard.page.evaluate("sessionStorage.length") == 0
    assert [fault for fault in dashboard.faults if "401" not in fault] == []  # Chromium notes every such answer
    dashboard.faults.clear()


async def test_a_key_stays_in_its_tab_until_it_is_forgotten(dashboard: Dashboard) -> None:
    await dashboard.connect(MASTER_KEY)
    await dashboard.page.reload()
    await dashboard.until_connected()
    assert await dashboard.page.evaluate("localStorage.length + document.cookie.length") == 0
    await dashboard.press("Forget the key")
    await expect(dashboard.page.get_by_label("API key")).to_be_focused()
    await dashboard.page.reload()
    await expect(dashboard.page.get_by_label("API key")).to_be_visible()
    await expect(dashboard.model("alpha")).not_to_be_visible()


async def test_an_admin_wakes_pins_and_puts_to_sleep_with_the_keyboard(dashboard: Dashboard, hearth: Observer) -> None:
    await hearth.sleep("beta")
    await dashboard.connect(MASTER_KEY)
    await dashboard.press("Wake beta")
    await dashboard.until_phase("beta", "ready")
    await expect(dashboard.page.locator("#phases")).to_have_text(re.compile("beta is ready"))
    await expect(dashboard.model("beta")).to_contain_text("idle: stops in")
    residents = dashboard.page.get_by_role("img", name=re.compile(r"Residents of GPU 0: .*beta 70 GiB, ready"))
    await expect(residents).to_be_visible()
    await dashboard.press("Pin beta")
    await expect(dashboard.button("Pin beta")).to_have_attribute("aria-pressed", "true")
    await expect(dashboard.model("beta")).to_contain_text("never stopped for idleness")
    await expect(dashboard.button("Pin beta")).to_be_focused()
    await dashboard.press("Log beta")
    await expect(dashboard.page.get_by_role("dialog")).to_be_visible()
    await expect(dashboard.page.locator("#log-text")).not_to_have_text("Fetching it")
    await dashboard.page.keyboard.press("Escape")
    await expect(dashboard.button("Log beta")).to_be_focused()
    await dashboard.press("Sleep beta")
    await dashboard.until_phase("beta", "asleep")
    await expect(dashboard.page.get_by_role("img", name=re.compile("^beta: .*ready from .* to "))).to_be_visible()
    assert "asked to sleep" in await dashboard.region("Events").inner_text()


async def test_a_long_line_is_shown_in_part_and_counted(dashboard: Dashboard, hearth: Observer, held: str) -> None:
    await dashboard.connect(MASTER_KEY)
    async with many(hearth, held, 200):
        await hearth.until_waiting(200)
        await expect(dashboard.region("Requests")).to_contain_text("200 waiting; the first 50 are shown")
        await expect(dashboard.rows("Requests")).to_have_count(50)
        await expect(dashboard.model(held)).to_contain_text("200 waiting")
        await dashboard.press(f"Cancel place 1, {held}")
        await expect(dashboard.region("Requests")).to_contain_text("199 waiting")
        await expect(dashboard.rows("Requests")).to_have_count(50)
        await expect(dashboard.page.locator("#requests-region")).to_be_focused()
    await expect(dashboard.region("Requests")).to_contain_text("0 waiting")


async def test_one_who_waits_is_told_that_it_was_cancelled(dashboard: Dashboard, hearth: Observer, held: str) -> None:
    await dashboard.connect(MASTER_KEY)
    request = hearth.http.build_request("POST", "/v1/chat/completions", json={"model": held, "messages": HI})
    async with hearth.asking(request) as asked:
        await dashboard.press(f"Cancel place 1, {held}")
        async with asyncio.timeout(LIMIT):
            answer = await asked
    assert answer.status_code == 499
    assert answer.json()["error"]["type"] == "request_cancelled"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "one piece"])
async def test_a_running_answer_is_cut_off_and_says_why(dashboard: Dashboard, hearth: Observer, stream: bool) -> None:
    await hearth.sleep("beta")
    await hearth.sleep("alpha")
    hearth.stack.set_options("alpha", "--tokens-per-second 1 --answer-tokens 600")
    await hearth.wake("alpha")
    await dashboard.connect(MASTER_KEY)
    body = {"model": "alpha", "messages": HI, "stream": stream}
    request = hearth.http.build_request("POST", "/v1/chat/completions", json=body)
    async with asyncio.timeout(LIMIT):
        if stream:  # cut off before its first piece it would be refused like the other
            answer = await hearth.http.send(request, stream=True)
            await dashboard.press("Cancel the running request, alpha")
            await answer.aread()
        else:
            async with hearth.asking(request) as asked:
                await hearth.until_running("alpha", 1)
                await dashboard.press("Cancel the running request, alpha")
                answer = await asked
    if stream:
        assert answer.status_code == 200
        *_, told, done = [line for line in answer.text.splitlines() if line]
        assert json.loads(told.removeprefix("data: "))["error"]["type"] == "request_cancelled"
        assert done == "data: [DONE]"
    else:
        assert (answer.status_code, answer.json()["error"]["type"]) == (499, "request_cancelled")
    await expect(dashboard.region("Requests")).to_contain_text("0 requests running")
    await hearth.until_running("alpha", 0)
    hearth.stack.set_options("alpha")
    await hearth.sleep("alpha")


async def test_another_key_sees_and_cancels_its_own_requests_only(
    dashboard: Dashboard, hearth: Observer, held: str
) -> None:
    await dashboard.connect(USER_KEY)
    mine = {"Authorization": f"Bearer {USER_KEY}"}
    body = {"model": held, "messages": HI}
    theirs = hearth.http.build_request("POST", "/v1/chat/completions", json=body)
    own = hearth.http.build_request("POST", "/v1/chat/completions", json=body, headers=mine)
    async with hearth.asking(theirs):
        await hearth.until_waiting(1)
        async with hearth.asking(own) as asked:
            await hearth.until_waiting(2)
            await expect(dashboard.rows("Requests")).to_have_count(1)
            await expect(dashboard.rows("Requests")).to_contain_text("a user")
            await expect(dashboard.button(f"Wake {held}")).not_to_be_visible()
            other = next(each["id"] for each in await hearth.requests() if each["alias"] != "a user")
            refused = await hearth.http.delete(f"/lifecycle/requests/{other}", headers=mine)
            assert refused.status_code == 404
            await dashboard.press(f"Cancel place 2, {held}")
            assert (await asked).status_code == 499
        await hearth.until_waiting(1)


async def test_a_failure_is_shown_with_its_log(dashboard: Dashboard, hearth: Observer) -> None:
    hearth.stack.set_options("faulty", "--fault exit-while-loading=3")
    await dashboard.connect(MASTER_KEY)
    await dashboard.press("Wake faulty")
    await dashboard.until_phase("faulty", "failed")
    await expect(dashboard.model("faulty")).to_contain_text("tried again in")
    failure = dashboard.region("Failures").get_by_role("listitem")
    await expect(failure).to_contain_text("it ended while it loaded")
    await failure.locator("summary").focus()
    await dashboard.page.keyboard.press("Enter")
    await expect(failure.locator("pre")).to_be_visible()
    await expect(failure.locator("pre")).not_to_be_empty()
    await dashboard.send("faulty", "hi there")
    fault = dashboard.page.locator("#try-fault")
    await expect(fault).to_contain_text("The engine's last lines:")
    assert "\n" in await fault.inner_text(), "a log is shown in lines"
    await expect(dashboard.page.locator("#try-answer")).not_to_be_visible()
    assert [each for each in dashboard.faults if "503" not in each] == []
    dashboard.faults.clear()  # Chromium notes every answer of 503


async def test_a_lost_connection_is_told_and_taken_up_again(dashboard: Dashboard, hearth: Observer) -> None:
    await hearth.sleep("beta")
    await dashboard.connect(MASTER_KEY)
    hearth.stack.router.kill()
    await expect(dashboard.connection).to_contain_text("Connection lost, trying again")
    await expect(dashboard.model("beta")).to_be_visible()
    hearth.stack.router.start()
    await dashboard.until_connected()
    await hearth.wake("beta")
    await dashboard.until_phase("beta", "ready")
    events = await dashboard.rows("Events").all_inner_texts()
    wakes = [text for text in events if "beta" in text and "starting" in text]
    assert len(wakes) == len(set(wakes)), "an event is shown once, also after a loss"
    noted = [fault for fault in dashboard.faults if "503" not in fault and "net::ERR" not in fault]
    assert noted == []
    dashboard.faults.clear()  # Chromium notes every answer of 503


async def test_a_model_is_tried_with_the_wait_shown(dashboard: Dashboard, hearth: Observer) -> None:
    await hearth.sleep("beta")
    await hearth.sleep("alpha")
    hearth.stack.set_options("alpha", "--load-seconds 2")
    await dashboard.connect(MASTER_KEY)
    await dashboard.send("alpha", "hi there")
    await expect(dashboard.page.locator("#try-state")).to_contain_text("alpha is starting")
    await expect(dashboard.page.locator("#try-state")).to_contain_text("Done in")
    assert await dashboard.page.get_by_role("region", name="Answer").inner_text()


async def test_what_a_key_may_not_use_is_not_offered(dashboard: Dashboard) -> None:
    await dashboard.page.route("**/v1/models", lambda route: route.fulfill(json={"data": [{"id": "beta"}]}))
    await dashboard.connect(USER_KEY)
    await expect(dashboard.model("alpha")).to_be_visible()
    await expect(dashboard.page.locator("#try-model option")).to_have_text(["beta"])


async def test_nothing_keeps_people_from_using_it(
    dashboard: Dashboard, hearth: Observer, held: str, axe_source: str
) -> None:
    page = dashboard.page
    assert await dashboard.accessibility_faults(axe_source) == []
    await dashboard.connect(MASTER_KEY)
    async with many(hearth, held, 5):
        await expect(dashboard.rows("Requests")).to_have_count(5)
        for colours, width in itertools.product(("light", "dark"), (360, 1280)):
            await page.emulate_media(color_scheme=colours)
            await page.set_viewport_size({"width": width, "height": 800})
            assert await dashboard.accessibility_faults(axe_source) == [], (colours, width)
            for part in ("html", "#requests-region"):
                sideways = await page.locator(part).evaluate("part => part.scrollWidth - part.clientWidth")
                assert sideways <= 0, f"{part} scrolls sideways at {width}"
    await dashboard.press(f"Log {held}")
    assert await dashboard.accessibility_faults(axe_source) == []
    await page.keyboard.press("Escape")
    hearth.stack.router.kill()
    await expect(dashboard.connection).to_contain_text("Connection lost")
    for colours in ("light", "dark"):
        await page.emulate_media(color_scheme=colours)
        assert await dashboard.accessibility_faults(axe_source) == [], f"{colours}, without a connection"
    hearth.stack.router.start()
    await dashboard.until_connected()
    dashboard.faults.clear()  # Chromium notes requests that got no answer


async def test_the_gateway_serves_nothing_but_the_pages_files(hearth: Observer) -> None:
    for path in ("/lifecycle/__init__.py", "/lifecycle/index.html", "/lifecycle/..%2fconfig.py", "/lifecycle/stream"):
        async with httpx.AsyncClient(base_url=hearth.stack.url, trust_env=False) as nobody:
            assert (await nobody.get(path)).status_code == 401, path
