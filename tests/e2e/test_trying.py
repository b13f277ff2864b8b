"""`hearth smoke`, `hearth soak` and `hearth inspect` on the running stack."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import hearth_command
import pytest
from observer import Observer
from stack import MASTER_KEY, ROOT, USER_KEY, Stack

pytestmark = pytest.mark.e2e

#: What the engine of `able` takes; its configuration promises 2048.
REAL = 1536
ANSWER = 32


def begin(stack: Stack, *words: str) -> subprocess.Popen[str]:
    """A command as a process of its own, which can be interrupted."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEARTH_", "LITELLM_"))}
    return subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-m", "router.cli.main", *words],  # CI may ignore it for all
        cwd=ROOT,
        env=kept | {"HEARTH_URL": stack.url, "HEARTH_API_KEY": MASTER_KEY, "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def hearth_says(stack: Stack, *words: str, code: int = 0, key: str = MASTER_KEY) -> tuple[str, str]:
    """What a command wrote to stdout and stderr, once it has ended with this exit code."""
    return await asyncio.to_thread(hearth_command.hearth_says, stack.url, key, *words, code=code)


def reports(directory: Path) -> tuple[dict[str, Any], str]:
    (plain,), (markdown,) = directory.glob("*.json"), directory.glob("*.md")
    return json.loads(plain.read_text()), markdown.read_text()


async def test_smoke_wakes_a_model_and_tries_what_it_is_said_to_do(hearth: Observer) -> None:
    await hearth.sleep("able")
    out, err = await hearth_says(hearth.stack, "smoke", "able", "--json", key=USER_KEY)
    results = {result["probe"]: result for result in json.loads(out)["results"]}
    assert {name: result["passed"] for name, result in results.items()} == {
        "text": True, "stream": True, "tools": True, "vision": True,
    }, out  # fmt: skip
    assert "the picture took" in results["vision"]["detail"]
    assert results["tools"]["detail"].startswith('get_weather({"city"')
    assert "able: " in err, "it says what it waits for"


async def test_smoke_of_what_is_awake_leaves_out_what_is_not_promised(hearth: Observer) -> None:
    await asyncio.gather(*(hearth.sleep(name) for name in await hearth.awake()))
    assert "No model is awake" in (await hearth_says(hearth.stack, "smoke", code=1))[1]
    await hearth.wake("small")
    out, _ = await hearth_says(hearth.stack, "smoke")
    rows = {line.split()[1]: line.split()[2] for line in out.splitlines()[1:]}
    assert rows == {"text": "pass", "stream": "pass", "tools": "-", "vision": "-"}


async def test_smoke_fails_with_the_reason(hearth: Observer) -> None:
    await hearth.wake("small")
    await hearth.engines["small"].faults("http-500")
    out, _ = await hearth_says(hearth.stack, "smoke", "small", code=1)
    assert out.count("FAIL") == 2
    assert "500" in out
    assert "No model 'nobody'" in (await hearth_says(hearth.stack, "smoke", "nobody", code=1))[1]
    assert "ate its cables" in (await hearth_says(hearth.stack, "smoke", "wild/retired", code=1))[1]


async def test_soak_finds_where_the_engine_ends_and_not_what_is_promised(hearth: Observer, tmp_path: Path) -> None:
    await hearth.sleep("able")
    words = ("soak", "able", "--concurrency", "2", "--output-tokens", str(ANSWER), "--report", str(tmp_path))
    out, _ = await hearth_says(hearth.stack, *words)
    report, markdown = reports(tmp_path)
    assert report["complete"] is True
    assert report["promised_context"] == 2048
    step, line = 64, 24
    assert REAL - ANSWER - step - line <= report["ceiling"] <= REAL - ANSWER
    failed = [tier for tier in report["tiers"] if not tier["passed"]]
    assert failed
    assert all("context" in tier["reason"] for tier in failed), failed
    assert report["limited_by"] == "engine"
    assert all(tier["prompt_tokens"] <= tier["target"] for tier in report["tiers"] if tier["passed"])
    assert f"prompts of {report['ceiling']:,} tokens hold" in out
    assert f"prompts of {report['ceiling']:,} tokens hold" in markdown


async def test_soak_of_given_sizes_ends_with_1_when_one_fails(hearth: Observer) -> None:
    await hearth.wake("able")
    out, _ = await hearth_says(hearth.stack, "soak", "able", "--tiers", "1k,1600,2000", "--json", code=1)
    assert [(tier["target"], tier["passed"]) for tier in json.loads(out)["tiers"]] == [(1024, True), (1600, False)]
    long, _ = await hearth_says(hearth.stack, "soak", "able", "--tiers", "3k", "--json", code=1)
    (tier,) = json.loads(long)["tiers"]
    assert tier["limited_by"] == "gateway", "more than the configuration promises"
    assert "no engine has seen it" in tier["reason"]
    needle, _ = await hearth_says(hearth.stack, "soak", "able", "--tiers", "500", "--needle", code=1)
    assert "did not name the number" in needle, "the simulator cannot read"


async def test_soak_says_all_of_it_in_eighty_columns(hearth: Observer, tmp_path: Path) -> None:
    await hearth.wake("able")
    (tmp_path / "file").touch()
    unwritable = await hearth_says(hearth.stack, "soak", "able", "--report", str(tmp_path / "file"), code=1)
    assert "cannot be written" in unwritable[1]
    assert "tokens" not in unwritable[1], "nothing was asked yet"
    out, _ = await hearth_says(hearth.stack, "soak", "able", "--tiers", "1k,1600", code=1)
    assert "\u2026" not in out
    assert "1,600 tokens: " in out


async def test_soak_that_is_interrupted_leaves_its_report(hearth: Observer, tmp_path: Path) -> None:
    await hearth.wake("able")
    process = begin(hearth.stack, "soak", "able", "--tiers", "400,800", "--report", str(tmp_path))
    assert process.stderr is not None
    line = ""
    while not line.startswith("400 tokens: pass"):
        line = await asyncio.to_thread(process.stderr.readline)
        assert line, "it has ended"
    await hearth.engines["able"].faults("hang-before-first-token")
    process.send_signal(signal.SIGINT)
    try:
        out, err = await asyncio.to_thread(process.communicate, timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, f"{out}\n{err}"
    report, _ = reports(tmp_path)
    assert report["complete"] is False
    assert report["tiers"][0]["target"] == 400
    await hearth.until_no_requests()


async def test_inspect_says_what_each_source_knows(hearth: Observer) -> None:
    await hearth.wake("able")
    config = str(hearth.stack.config)
    out, _ = await hearth_says(hearth.stack, "inspect", "able", "--config", config, "--json")
    known = json.loads(out)
    assert known["configuration"]["memory"] == 10 * 2**30
    assert known["catalogue"]["context"] == 2048
    assert known["server"]["phase"] == "ready"
    assert known["server"]["load_seconds"] > 0
    assert any("started" in line.lower() or "ready" in line.lower() for line in known["log"]), known["log"]
    assert known["missing"] == {}


async def test_inspect_shows_why_a_model_failed_to_an_admin_only(hearth: Observer) -> None:
    hearth.stack.set_options("faulty", "--fault", "exit-while-loading=7")
    await hearth.act("faulty", "wake")
    await hearth.until_phase("faulty", "failed")
    config = str(hearth.stack.config)
    out, _ = await hearth_says(hearth.stack, "inspect", "faulty", "--config", config)
    assert "exit code 7" in out
    assert "LAST LINES OF THE ENGINE" in out
    out, _ = await hearth_says(hearth.stack, "inspect", "faulty", "--config", "nowhere.yaml", key=USER_KEY)
    assert "exit code 7" in out
    assert "LAST LINES" not in out
    assert "configuration: nowhere.yaml: cannot be read" in out
    assert "nobody" in (await hearth_says(hearth.stack, "inspect", "nobody", "--config", config, code=1))[1]
