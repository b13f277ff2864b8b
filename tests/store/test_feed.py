"""The stream that feeds the dashboard: what is told, to whom, and when it ends. No model runs: the store is enough."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from fleet import config, spec

from router.api import dashboard
from router.api.access import Services
from router.api.app import create_app
from router.api.protocol import CALLER_HEADER, ROLE_HEADER, TOKEN_HEADER
from router.scheduler import Outlook
from router.store.admission import Admission
from router.store.fleet import FleetStore
from router.store.state import Phase
from router.store.ticket import Ticket

Ask = Callable[..., Any]


@pytest.fixture
async def ask(fleet_store: FleetStore, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """All that a stream says until it is old, which is soon, by event."""
    monkeypatch.setattr(dashboard, "LIFE", 0.01)
    controller = SimpleNamespace(
        trouble="",
        lock=SimpleNamespace(may_act=True),
        outlook=lambda state: Outlook(dict.fromkeys(state.models), dict.fromkeys(state.models, 7.4), {}),
    )
    services = Services(config(spec("m")), fleet_store, cast("Any", controller), cast("Any", None))
    transport = httpx.ASGITransport(create_app(services))

    async def asked(role: str = "admin", caller: str = "h1", last_event: str = "") -> list[tuple[str, Any]]:
        headers = {TOKEN_HEADER: await fleet_store.api_token(), ROLE_HEADER: role, CALLER_HEADER: caller}
        if last_event:
            headers["Last-Event-ID"] = last_event
        async with httpx.AsyncClient(transport=transport, base_url="http://router", headers=headers) as client:
            text = (await client.get("/lifecycle/stream")).text
        found = []
        for message in text.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in message.splitlines() if not line.startswith(":"))
            if fields:
                found.append((fields["event"], json.loads(fields["data"]) | {"id": fields.get("id")}))
        return found

    return asked


async def test_a_stream_tells_who_looks_then_the_events_then_the_state_and_ends(
    ask: Ask, fleet_store: FleetStore
) -> None:
    holder = await fleet_store.take_lock("r1", 60) or ""
    await fleet_store.move(holder, "m", list(Phase), Phase.READY, event="ready", detail="after 1 s")
    told = await ask()
    assert [kind for kind, _ in told] == ["hello", "happened", "happened", "state", "again"]
    assert told[0][1]["admin"] is True
    assert told[2][1]["phase"] == "ready"
    state = told[3][1]
    assert (state["models"]["m"]["phase"], state["models"]["m"]["at_most_seconds"]) == ("ready", 7)
    assert state["requests"] == {"running": 0, "waiting": 0, "rows": []}


@pytest.mark.parametrize("path", ["/lifecycle/stream", "/lifecycle/events"])
@pytest.mark.parametrize("event_id", ["yesterday", "-5", "5-", "1-2-3", "9" * 20])
async def test_an_event_that_cannot_be_one_is_refused(fleet_store: FleetStore, path: str, event_id: str) -> None:
    services = Services(config(spec("m")), fleet_store, cast("Any", None), cast("Any", None))
    headers = {TOKEN_HEADER: await fleet_store.api_token(), "Last-Event-ID": event_id}
    transport = httpx.ASGITransport(create_app(services))
    async with httpx.AsyncClient(transport=transport, base_url="http://router", headers=headers) as client:
        assert (await client.get(path)).status_code == 422


async def test_a_stream_goes_on_after_the_last_event_that_was_seen(ask: Ask, fleet_store: FleetStore) -> None:
    await fleet_store.note("m", "first", "")
    (first,) = [body for kind, body in await ask() if kind == "happened"]
    assert [kind for kind, _ in await ask(last_event=first["id"])] == ["hello", "state", "again"]
    await fleet_store.note("m", "second", "")
    assert [body["event"] for kind, body in await ask(last_event=first["id"]) if kind == "happened"] == ["second"]


async def test_only_an_admin_sees_logs_and_the_requests_of_others(
    ask: Ask, fleet_store: FleetStore, gateway: Admission
) -> None:
    holder = await fleet_store.take_lock("r1", 60) or ""
    await fleet_store.move(
        holder, "m", list(Phase), Phase.READY, event="ready", fields={"log": json.dumps(["a secret of the log"])}
    )
    tickets = [Ticket("m", caller="h1", alias="one"), Ticket("m", caller="h2", alias="two")]
    for ticket in tickets:
        await gateway.acquire(ticket, limit=0, bound=1)
    everything, own = json.dumps(await ask()), json.dumps(await ask("user", "h2"))
    assert "a secret of the log" in everything
    assert "a secret of the log" not in own
    assert tickets[0].id in everything
    assert tickets[0].id not in own
    assert tickets[1].id in own
    assert '"one"' not in own
    for ticket in tickets:
        gateway.end(ticket)
