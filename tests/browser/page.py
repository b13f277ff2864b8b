"""The dashboard as somebody sees it: by roles and names, as a screen reader would find them."""

from __future__ import annotations

import re
from typing import Any

from playwright.async_api import ConsoleMessage, Locator, Page, Response, expect

#: Milliseconds within which everything on a busy machine must have happened.
LIMIT = 30_000

expect.set_options(timeout=LIMIT)


class Dashboard:
    """One tab. faults: what the console and the page's own errors said. served: bytes of each file that it loaded."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = f"{url}/lifecycle/"
        self.faults: list[str] = []
        self.served: dict[str, int] = {}
        page.set_default_timeout(LIMIT)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("response", self._loaded)

    async def open(self) -> None:
        answer = await self.page.goto(self.url)
        assert answer is not None
        assert answer.status == 200
        self.headers = answer.headers

    async def enter(self, key: str) -> None:
        """Give the key, as somebody without a mouse does."""
        await self.page.keyboard.type(key)
        await self.page.keyboard.press("Enter")

    async def connect(self, key: str) -> None:
        await self.enter(key)
        await self.until_connected()

    async def until_connected(self) -> None:
        await expect(self.connection).to_have_text(re.compile("^Connected"))

    @property
    def connection(self) -> Locator:
        return self.page.locator("#connection")

    def model(self, name: str) -> Locator:
        """A model's card."""
        return self.page.get_by_role("article", name=name, exact=True)

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def region(self, title: str) -> Locator:
        """A part of the page by its heading."""
        return self.page.locator("section", has=self.page.get_by_role("heading", name=title, exact=True, level=2))

    def rows(self, title: str) -> Locator:
        return self.region(title).locator("tbody tr")

    async def until_phase(self, name: str, phase: str) -> None:
        await expect(self.model(name)).to_have_attribute("data-phase", phase)

    async def press(self, name: str) -> None:
        """Focus a button and press it with the keyboard."""
        await self.button(name).focus()
        await self.page.keyboard.press("Enter")

    async def send(self, model: str, prompt: str) -> None:
        """Try a model."""
        await self.page.get_by_label("Model", exact=True).select_option(model)
        await self.page.get_by_label("Prompt", exact=True).fill(prompt)
        await self.press("Send")

    async def accessibility_faults(self, axe: str) -> list[dict[str, Any]]:
        """axe-core's findings that are serious or worse. axe: its source."""
        await self.page.evaluate(axe)  # what the developer's console runs is not bound by the page's own policy
        found = await self.page.evaluate("axe.run()")
        return [
            {"rule": fault["id"], "nodes": [node["html"] + node["failureSummary"] for node in fault["nodes"]]}
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
        ]

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"{message.type}: {message.text}")

    def _loaded(self, response: Response) -> None:
        if response.request.resource_type in ("document", "script", "stylesheet", "image"):
            self.served[response.url] = int(response.headers.get("content-length", 0))
