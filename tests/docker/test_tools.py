"""An owner's tools on a real engine in a container: a tiny llama-server, woken by the first request."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from check_tree import ENVIRONMENT, plant
from hearth_command import hearth_says
from llama_machine import SHORT, Machine
from stack import MASTER_KEY, until

pytestmark = pytest.mark.docker

ANSWER = 16


@pytest.fixture
def machine_asleep(machine: Machine) -> Iterator[Machine]:
    """`short` sleeps, and does so again afterwards."""
    assert not machine.fleet.engines["short"].runs
    yield machine
    hearth_says(machine.stack.url, MASTER_KEY, "sleep", "short", "--force")
    until(lambda: not machine.fleet.engines["short"].runs, "short sleeps")


def test_smoke_soak_and_inspect_of_a_real_engine(machine_asleep: Machine, tmp_path: Path) -> None:
    url, engine = machine_asleep.stack.url, machine_asleep.fleet.engines["short"]
    out, _ = hearth_says(url, MASTER_KEY, "smoke", "short", "--json")
    results = {result["probe"]: result["passed"] for result in json.loads(out)["results"]}
    assert results == {"text": True, "stream": True, "tools": None, "vision": None}, out
    assert engine.runs, "smoke has woken it"

    words = ("soak", "short", "--output-tokens", str(ANSWER), "--json", "--report", str(tmp_path))
    report = json.loads(hearth_says(url, MASTER_KEY, *words)[0])
    assert report["complete"]
    assert report["limited_by"] == "engine"
    # the last sizes that were tried lie 64 tokens apart, and a prompt may have some 40 fewer than meant
    assert SHORT - ANSWER - 64 - 40 <= report["ceiling"] <= SHORT, report
    assert all(abs(tier["prompt_tokens"] - tier["target"]) < 64 for tier in report["tiers"] if tier["passed"])
    assert [file.suffix for file in sorted(tmp_path.iterdir())] == [".json", ".md"]
    assert engine.runs, "a prompt that is too long has not ended it"

    known = json.loads(
        hearth_says(url, MASTER_KEY, "inspect", "short", "--config", str(machine_asleep.stack.config), "--json")[0]
    )
    assert known["server"]["phase"] == "ready"
    assert known["container"]["state"] == "running"
    assert known["missing"].keys() <= {"service"}
    assert any("llama" in line or "srv" in line for line in known["log"]), known["log"]


def test_add_refuses_a_container_whose_engine_it_does_not_know(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [*os.environ]:
        if name.startswith(("HEARTH_", "HF_", "LITELLM_")):
            monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    box = plant(tmp_path / "box")
    before = {file: file.read_bytes() for file in box.parent.rglob("*") if file.is_file()}
    container = machine.fleet.container_name("bystander")
    _, err = hearth_says("", "", "add", "--container", container, "--config", str(box), "--yes", code=1)
    assert "starts no engine that is known here (vLLM, SGLang)" in err
    assert {file: file.read_bytes() for file in box.parent.rglob("*") if file.is_file()} == before
