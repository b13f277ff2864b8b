"""The metrics' names and labels, what is counted, and that the document lists all of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import fleet
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from router.metrics.fleet import Fleet
from router.metrics.history import REFUSALS, History
from router.metrics.page import render
from router.metrics.rounds import ACTIONS, Rounds
from router.scheduler import Action, Grant
from router.scheduling.reasons import ASKED, IDLE, ROOM_NEEDED, Why, for_whom, making_room, why
from router.store.state import EndedRequest, FleetState, Phase, Waiting

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "monitoring.md"
SCRIPTS = ROOT / "router" / "store" / "scripts"
CALLER = "c0ffee5ecret"
LUA = "".join(path.read_text(encoding="utf-8") for path in sorted(SCRIPTS.glob("*.lua")))
#: What the scripts call the ends of requests that did not run to their end.
OUTCOMES = {
    word
    for line in LUA.splitlines()
    if re.search(r"(give_up|end_lease)\(", line) and not line.startswith("local function")
    for word in re.findall(r"'(\w+)'", line)
}

CONFIG = fleet.config(fleet.spec("a"), fleet.spec("b"), fleet.spec("c"))
STATE = FleetState(
    now=1000.0,
    models={
        "a": fleet.ready(2, load_seconds=40.0, measured_memory=7, pinned=True),
        "b": fleet.in_phase(Phase.STARTING, since=990.0),
        "c": fleet.ASLEEP,
    },
    line=(Waiting("1", "b", 970.0, caller=CALLER, alias="ada"), Waiting("2", "b", 990.0), Waiting("3", "gone", 1.0)),
)


class _Store:
    """The streams, as FleetStore reads them."""

    def __init__(self) -> None:
        self.event_rows: list[dict[str, str]] = []
        self.request_rows: list[tuple[str, EndedRequest]] = []
        self.refused: dict[tuple[str, str], int] = {}

    def happen(self, event: str, model: str, at: float, **fields: str) -> None:
        name = f"{len(self.event_rows):06d}-0"
        self.event_rows.append({"id": name, "event": event, "model": model, "at": str(int(at * 1000)), **fields})

    def end(self, model: str, joined: float, granted: float | None, ended: float, outcome: str) -> None:
        request = EndedRequest(model, CALLER, joined, granted, ended, outcome == "completed", outcome)
        self.request_rows.append((f"{len(self.request_rows):06d}-0", request))

    async def events(self, after: str, *, count: int) -> list[dict[str, str]]:
        return [row for row in self.event_rows if row["id"] > after][:count]

    async def ended_requests(self, after: str) -> list[tuple[str, EndedRequest]]:
        return [row for row in self.request_rows if row[0] > after][:2]

    async def refusals(self) -> dict[tuple[str, str], int]:
        return self.refused


@pytest.fixture
def store() -> _Store:
    return _Store()


@pytest.fixture
def history(store: _Store) -> History:
    return History(store, ["a", "b", "c"], since=0.0)  # type: ignore[arg-type]


def families(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def samples(text: str, name: str) -> dict[tuple[str, ...], float]:
    """The samples of that name that are not 0, by the values of their labels."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and sample.value
    }


def everything(history: History) -> str:
    now = Fleet(CONFIG, STATE, {"0": 4}, expected={"a": 0.0, "b": 30.0, "c": None}, trouble="", version="1.2")
    return render(now, history, Rounds().registry)


async def busy(store: _Store, history: History) -> str:
    """Something of everything has happened."""
    for outcome in OUTCOMES:
        store.end("a", 1.0, None, 2.0, outcome)
    store.end("a", 1.0, 2.0, 5.0, "completed")
    for kind in ("starting", "ready", "stopping", "stopped", "starting", "failed", "died", "memory-over"):
        store.happen(kind, "a", 3.0, detail=IDLE)
    await history.catch_up()
    return everything(history)


# --- names


async def test_the_document_lists_every_metric_with_its_labels(store: _Store, history: History) -> None:
    found = {}
    for family in text_string_to_metric_families(await busy(store, history)):
        name = family.name + {"counter": "_total"}.get(family.type, "")
        found[name] = {label for sample in family.samples for label in sample.labels} - {"le"}
    rows = re.findall(r"^\| `(hearth_\w+)` \|([^|]*)\|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert found == {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


async def test_names_follow_the_conventions(store: _Store, history: History) -> None:
    for name, family in families(await busy(store, history)).items():
        assert name.startswith("hearth_")
        assert family.documentation.endswith("."), name
        assert not re.search(r"_(count|sum|bucket|total|ms|milliseconds|mb|gib)$", name), name
        if family.type == "histogram":
            assert name.endswith("_seconds"), name
        values = {sample.value for sample in family.samples}
        assert name.endswith("_bytes") or all(value < 10**9 for value in values), name


async def test_no_label_can_have_many_values(store: _Store, history: History) -> None:
    text = await busy(store, history)
    labels = {
        label for family in text_string_to_metric_families(text) for each in family.samples for label in each.labels
    }
    assert labels == {"model", "gpu", "phase", "outcome", "reason", "action", "finding", "version", "le"}
    assert CALLER not in text
    assert "ada" not in re.findall(r'"([^"]*)"', text)
    assert {key[0] for key in samples(text, "hearth_waiting_requests")} == {"b"}, "a model that is not configured"


async def test_the_document_has_every_word_that_a_label_can_have(store: _Store, history: History) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    words = {*Why, *REFUSALS, *ACTIONS.values()}
    outcomes = {key[1] for key in samples(await busy(store, history), "hearth_requests_total")}
    assert {"completed", "cut_short", "left", "timed_out", "lost"} < outcomes
    assert {word for word in words | outcomes if f"`{word}`" not in text} == set()


def test_every_reason_of_the_scripts_is_known() -> None:
    assert set(re.findall(r"count_refusal\(model, '(\w+)'\)", LUA)) == set(REFUSALS)


def test_every_action_has_a_label() -> None:
    assert set(ACTIONS) == {kind.__name__ for kind in Action.__args__}  # type: ignore[attr-defined]


# --- the fleet


def test_gauges_say_what_the_snapshot_says(history: History) -> None:
    text = everything(history)
    assert samples(text, "hearth_model_phase") == {("a", "ready"): 1, ("b", "starting"): 1, ("c", "asleep"): 1}
    assert samples(text, "hearth_leases") == {("a",): 2}
    assert samples(text, "hearth_waiting_requests") == {("b",): 2}
    assert samples(text, "hearth_oldest_wait_seconds") == {("b",): 30}
    assert samples(text, "hearth_expected_wait_seconds") == {("b",): 30}
    assert samples(text, "hearth_model_pinned") == {("a",): 1}
    assert samples(text, "hearth_model_phase_start_timestamp_seconds") == {("a",): 900, ("b",): 990}
    assert samples(text, "hearth_gpu_claimed_bytes") == {("0",): 12}
    assert samples(text, "hearth_router_acting") == samples(text, "hearth_runtime_up") == {(): 1}


@pytest.mark.parametrize(("trouble", "acting", "up"), [("Docker is away", 1, 0), (None, 0, None)])
def test_a_runtime_that_is_away_is_down_and_one_that_was_not_asked_is_unknown(
    trouble: str | None, acting: int, up: int | None
) -> None:
    found = families(render(Fleet(CONFIG, STATE, {}, {}, trouble, "1")))
    assert found["hearth_router_acting"].samples[0].value == acting
    assert (found["hearth_runtime_up"].samples[0].value if "hearth_runtime_up" in found else None) == up


# --- what has happened


async def counted(store: _Store, history: History, name: str) -> dict[tuple[str, ...], float]:
    await history.catch_up()
    return samples(render(history), name)


async def test_a_wake_is_counted_and_timed_from_its_order(store: _Store, history: History) -> None:
    store.happen("starting", "a", 100.0)
    assert await counted(store, history, "hearth_wakes_total") == {}
    store.happen("ready", "a", 107.0)
    assert await counted(store, history, "hearth_wakes_total") == {("a", "ready"): 1}
    assert await counted(store, history, "hearth_wake_seconds_sum") == {("a",): 7}
    assert ("5.0", "a") not in await counted(store, history, "hearth_wake_seconds_bucket")
    assert (await counted(store, history, "hearth_wake_seconds_bucket"))["10.0", "a"] == 1


@pytest.mark.parametrize(
    ("end", "outcome"), [({"event": "failed", "phase": "failed"}, "failed"), ({"event": "stopping"}, "broken_off")]
)
async def test_a_wake_that_came_to_nothing_has_no_time(
    store: _Store, history: History, end: dict[str, Any], outcome: str
) -> None:
    store.happen("starting", "a", 100.0)
    store.happen(model="a", at=130.0, **end)
    assert await counted(store, history, "hearth_wakes_total") == {("a", outcome): 1}
    assert await counted(store, history, "hearth_wake_seconds_count") == {}
    assert await counted(store, history, "hearth_engine_deaths_total") == {}


async def test_an_engine_that_was_ready_and_ended_has_died(store: _Store, history: History) -> None:
    store.happen("died", "a", 100.0)
    store.happen("failed", "a", 200.0, phase="failed")
    assert await counted(store, history, "hearth_engine_deaths_total") == {("a",): 2}
    assert await counted(store, history, "hearth_wakes_total") == {}


async def test_a_swap_is_one_start_however_many_made_room_for_it(store: _Store, history: History) -> None:
    store.happen("draining", "a", 100.0, detail=making_room("c"))
    store.happen("stopping", "b", 100.0, detail=making_room("c"))
    store.happen("stopping", "a", 110.0, detail=making_room("c"))
    store.happen("stopped", "b", 104.0)
    store.happen("starting", "c", 111.0)
    store.happen("ready", "c", 120.0)
    assert await counted(store, history, "hearth_swaps_total") == {("c",): 1}
    assert await counted(store, history, "hearth_stops_total") == {("a", "swap"): 1, ("b", "swap"): 1}
    assert await counted(store, history, "hearth_stop_seconds_sum") == {("b",): 4}
    store.happen("stopping", "c", 130.0, detail=IDLE)
    store.happen("starting", "c", 140.0)
    assert await counted(store, history, "hearth_swaps_total") == {("c",): 1}, "nobody made room this time"


async def test_requests_are_counted_once_and_waits_timed(store: _Store, history: History) -> None:
    store.end("a", 100.0, 100.0, 104.0, "completed")
    store.end("a", 100.0, 112.0, 113.0, "cut_short")
    store.end("b", 100.0, None, 140.0, "timed_out")
    store.end("unknown", 100.0, None, 140.0, "left")
    for _ in range(2):
        assert await counted(store, history, "hearth_requests_total") == {
            ("a", "completed"): 1,
            ("a", "cut_short"): 1,
            ("b", "timed_out"): 1,
        }
    assert await counted(store, history, "hearth_wait_seconds_count") == {("a",): 2}
    assert await counted(store, history, "hearth_wait_seconds_sum") == {("a",): 12}
    assert await counted(store, history, "hearth_service_seconds_sum") == {("a",): 4}


async def test_refusals_are_those_that_the_store_has_counted(store: _Store, history: History) -> None:
    store.refused = {("a", "no_wait"): 3, ("unknown", "no_wait"): 1}
    assert await counted(store, history, "hearth_refusals_total") == {("a", "no_wait"): 3}


async def test_what_concerns_no_model(store: _Store, history: History) -> None:
    store.happen("worker-gone", "", 1.0)
    store.happen("router-acting", "", 1.0)
    store.happen("asked-pin", "a", 1.0)
    assert await counted(store, history, "hearth_gateway_workers_lost_total") == {(): 1}
    assert await counted(store, history, "hearth_router_takeovers_total") == {(): 1}


def test_rounds() -> None:
    rounds = Rounds()
    with rounds.deciding():
        pass
    rounds.carried_out(Grant("a", ("1",)))
    text = render(rounds.registry)
    assert samples(text, "hearth_scheduler_actions_total") == {("grant",): 1}
    assert samples(text, "hearth_scheduler_decision_seconds_count") == {(): 1}


# --- reasons


@pytest.mark.parametrize(
    ("reason", "kind", "whom"),
    [
        (IDLE, Why.IDLE, None),
        (ASKED, Why.ASKED, None),
        (ROOM_NEEDED, Why.SWAP, None),
        (making_room("b"), Why.SWAP, "b"),
        (making_room("b", "schedule"), Why.SWAP, "b"),
        (making_room("b (old)", "schedule"), Why.SWAP, "b (old)"),
        (making_room("stranger"), Why.SWAP, None),
        ("it was started by somebody else", Why.OTHER, None),
    ],
)
def test_reasons(reason: str, kind: Why, whom: str | None) -> None:
    assert why(reason) is kind
    assert for_whom(reason, {"b", "b (old)"}) == whom
