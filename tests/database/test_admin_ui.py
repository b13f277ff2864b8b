"""LiteLLM's admin UI in a real Chromium: log in, make a key, use it, and see what it has spent."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from observer import HI, Observer, bearer, until
from playwright.async_api import Page, async_playwright, expect
from stack import MASTER_KEY

#: Milliseconds within which everything on a busy machine must have happened.
LIMIT = 60_000


@pytest.fixture
async def page(hearth: Observer) -> AsyncIterator[Page]:
    """A tab of its own. A test ends with no error of the page, and with nothing asked of anybody but the gateway."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium here (tests/environment/prepare installs one)")
    faults: list[str] = []
    hosts: set[str] = set()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, chromium_sandbox=os.geteuid() != 0)
        context = await browser.new_context(viewport={"width": 1400, "height": 1000}, reduced_motion="reduce")
        tab = await context.new_page()
        tab.set_default_timeout(LIMIT)
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        yield tab
        await browser.close()
    assert faults == []
    assert hosts - {""} == {urlsplit(hearth.stack.url).netloc}


async def log_in(page: Page, url: str, password: str) -> None:
    await page.goto(f"{url}/ui/login/")
    await page.get_by_placeholder(re.compile("username", re.IGNORECASE)).fill("admin")
    await page.get_by_placeholder(re.compile("password", re.IGNORECASE)).fill(password)
    await page.get_by_role("button", name="Login", exact=True).click()


@pytest.mark.timeout(240)
async def test_a_key_from_login_to_spend(page: Page, hearth: Observer) -> None:
    url = hearth.stack.url
    await log_in(page, url, MASTER_KEY)
    await page.get_by_role("link", name="Virtual Keys").click()
    await page.get_by_role("button", name="Create New Key").click()
    form = page.get_by_role("dialog")
    await form.get_by_label("Key Name").fill("from-the-browser")
    await form.get_by_role("button", name="Create Key", exact=True).click()
    shown = page.get_by_role("dialog").filter(has_text="Save your Key")
    await expect(shown).to_be_visible(timeout=LIMIT)
    key = re.search(r"sk-[\w-]+", await shown.inner_text())
    assert key is not None

    # an admin has made it, and still it is for asking models only
    mine = bearer(key.group())
    assert (await hearth.http.get("/lifecycle/requests", headers=mine)).json() == {"requests": []}
    assert (await hearth.http.post("/lifecycle/models/small/wake", headers=mine)).status_code == 403
    async with hearth.sdk(key.group()) as sdk:
        answer = await sdk.chat.completions.create(model="priced", messages=HI)  # type: ignore[arg-type]
    assert answer.usage is not None
    spent = answer.usage.total_tokens * 0.01

    async def known() -> bool:
        info = await hearth.http.get("/key/info", params={"key": key.group()})
        return bool(info.json()["info"]["spend"])

    await until(known, "the spend is in the database")
    await page.goto(f"{url}/ui/api-keys/")
    row = page.get_by_role("row").filter(has_text="from-the-browser")
    await expect(row).to_contain_text(f"${spent:.4f}", timeout=LIMIT)


async def test_nobody_logs_in_without_the_admin_key(page: Page, hearth: Observer) -> None:
    await log_in(page, hearth.stack.url, "sk-guessed")
    await expect(page.get_by_text(re.compile("invalid", re.IGNORECASE)).first).to_be_visible(timeout=LIMIT)
    assert "/login" in page.url
