"""The dashboard in the Chromium of this machine (tests/environment/browser installs one), on a stack of its own."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import async_playwright

sys.path.append(str(Path(__file__).parents[1] / "e2e"))

from observer import Observer
from page import Dashboard
from stack import Model, Stack

MODELS = [
    Model("alpha", memory="40GiB", load_seconds=0.3, tokens_per_second=40),
    Model("beta", memory="70GiB", load_seconds=0.3, lifecycle={"idle_timeout": "1h"}),
    Model("gamma", gpu="1", memory="20GiB", load_seconds=0.3, lifecycle={"role": "utility"}),
    Model("faulty", gpu="1", memory="20GiB", lifecycle={"start_timeout": "5s"}),
]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two GPUs; alpha and beta do not fit on theirs together."""
    with Stack(
        tmp_path_factory.mktemp("stack"),
        MODELS,
        gpus={"0": {"memory": "100GiB", "reserve": "10GiB"}, "1": {"memory": "48GiB"}},
        settings={"keepalive_interval": "300ms", "cooldown": {"first": "30s", "longest": "60s"}},
        user_key=True,
    ) as stack:
        yield stack


@pytest.fixture
async def hearth(stack: Stack) -> AsyncIterator[Observer]:
    """The stack without a browser between; afterwards nothing of the test is left running or failing."""
    async with Observer(stack) as observer:
        yield observer
        await observer.until_no_requests()
        for name in stack.models:
            stack.set_options(name)
            await observer.act(name, "unpin")


@pytest.fixture
def axe_source() -> str:
    """axe-core, the checker of accessibility."""
    axe = os.environ.get("HEARTH_TEST_AXE")
    if not axe:
        pytest.skip("there is no axe-core here (tests/environment/prepare fetches it)")
    return Path(axe).read_text(encoding="utf-8")


@pytest.fixture
async def dashboard(stack: Stack, hearth: Observer) -> AsyncIterator[Dashboard]:
    """The page, opened, without a key yet. A test ends with nothing said on the browser's console."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium here (tests/environment/prepare installs one)")
    sandbox = os.geteuid() != 0  # Chromium's own sandbox refuses to work for root
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, chromium_sandbox=sandbox)
        context = await browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
        page = Dashboard(await context.new_page(), stack.url)
        await page.open()
        yield page
        await browser.close()
        assert page.faults == []
