"""One conversation through each client, as it is published: a streamed answer of a sleeping model, a call of a tool
with its result, and a second model, for which the first has to give way."""

from __future__ import annotations

import json
import stat

import pytest
from observer import Observer
from programs import Home

# agents are large programs: on a busy machine their start alone takes long
pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

SDKS = ["openai_sdk.py", "anthropic_sdk.py", "openai_sdk.mjs", "anthropic_sdk.mjs"]


async def require_both_woken(hearth: Observer, starts: dict[str, int]) -> None:
    """The second model runs, the first has given way, and each was started once."""
    assert {name: len(hearth.stack.starts(name)) - before for name, before in starts.items()} == {
        "first": 1,
        "second": 1,
    }
    phases = await hearth.phases()
    assert (phases["first"], phases["second"]) == ("asleep", "ready")


@pytest.fixture
def starts(hearth: Observer) -> dict[str, int]:
    return {name: len(hearth.stack.starts(name)) for name in ("first", "second")}


@pytest.mark.parametrize("example", SDKS)
async def test_an_sdk(hearth: Observer, home: Home, starts: dict[str, int], example: str) -> None:
    environment = await home.sdk_environment()
    ended = (await home.example(example, "first", "second", environment=environment)).require_success()
    streamed, called, told, other = ended.out.splitlines()
    assert called.startswith("first calls weather({")
    for line, model in ((streamed, "first"), (told, "first"), (other, "second")):
        assert len(line.removeprefix(f"{model}: ").split()) >= 12
    await require_both_woken(hearth, starts)


async def test_curl(hearth: Observer, home: Home, starts: dict[str, int]) -> None:
    environment = await home.sdk_environment()
    out = (await home.example("chat.sh", "first", "second", environment=environment)).require_success().out
    assert ": hearth: first is " in out, "it says where the request stands"
    assert out.count("data: [DONE]") == 2
    answers = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert [answer["choices"][0]["finish_reason"] for answer in answers] == ["tool_calls", "stop"]
    await require_both_woken(hearth, starts)


async def test_opencode(hearth: Observer, home: Home, starts: dict[str, int]) -> None:
    ended = (await home.hearth("client", "opencode", "--write")).require_success()
    assert "trouble is left out: with OpenCode it calls tools when it should answer; instead: first" in ended.err
    path = home.path / ".config" / "opencode" / "opencode.json"
    assert home.secret not in path.read_text(), "the key stays in the environment"

    asked = (await home.opencode("-m", "hearth/first", "hi there")).require_success()
    (refused,) = [event for event in asked.events if event["type"] == "tool_use"]
    assert "rejected permission" in refused["part"]["state"]["error"], "nothing is run that nobody allowed"

    done = (await home.opencode("-m", "hearth/first", "--auto", "hi there")).require_success()
    (used,) = [event for event in done.events if event["type"] == "tool_use"]
    assert used["part"]["state"]["status"] == "completed"
    assert len(said(done.events).split()) >= 12

    other = (await home.opencode("-m", "hearth/second", "--auto", "hi there")).require_success()
    assert len(said(other.events).split()) >= 12
    await require_both_woken(hearth, starts)
    assert await hearth.engines["tiny"].requests(), "titles come from the utility model"


def said(events: list[dict[str, object]]) -> str:
    return "".join(event["part"]["text"] for event in events if event["type"] == "text")  # type: ignore[index]


async def test_cline(hearth: Observer, home: Home, starts: dict[str, int]) -> None:
    (await home.hearth("client", "cline", "--write")).require_success()
    settings = home.path / ".cline" / "data" / "settings"
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in settings.iterdir())

    refused = (await home.cline("hi there")).require_success().out
    assert 'Tool \\"read_files\\" requires approval' in refused, "nothing is done that nobody allowed"

    result = (await home.cline("--auto-approve", "true", "hi there")).require_success().result
    assert result["model"]["id"] == "first"
    assert result["model"]["info"]["contextWindow"] == 24000
    assert (result["finishReason"], result["iterations"]) == ("completed", 2), "a tool was called, its result answered"
    assert len(result["text"].split()) >= 12

    (await home.hearth("client", "cline", "--model", "second", "--write")).require_success()
    result = (await home.cline("hi there")).require_success().result
    assert (result["model"]["id"], result["finishReason"]) == ("second", "completed")
    assert result["model"]["info"]["contextWindow"] == 32768
    assert len(result["text"].split()) >= 12
    await require_both_woken(hearth, starts)


async def test_only_what_the_key_may_use_is_offered(home: Home) -> None:
    offered = json.loads((await home.hearth("client", "opencode")).require_success().out)
    models = offered["provider"]["hearth"]["models"]
    assert sorted(models) == ["first", "second", "tiny"]
    assert models["first"]["limit"] == {"context": 24000, "output": 2048}
    assert (models["first"]["attachment"], models["second"]["attachment"]) == (True, False)
    assert (models["first"]["tool_call"], models["tiny"]["tool_call"]) == (True, False)
    assert (offered["model"], offered["small_model"]) == ("hearth/first", "hearth/tiny")
    assert not (home.path / ".config").exists(), "without --write nothing is written"
    assert home.secret not in (await home.hearth("client", "cline")).require_success().out
