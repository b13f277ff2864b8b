"""What `hearth inspect` shows, from a box with nothing wrong and no server."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from check_tree import edit, plant
from docker.errors import NotFound
from rich.console import Console
from typer.testing import CliRunner, Result

from router.catalogue import Card, Catalogue
from router.cli.inspect import Known, as_object, shown
from router.cli.main import app

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def nothing_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith(("HEARTH_", "LITELLM_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LITELLM_MASTER_KEY", "sk-of-the-shell")
    monkeypatch.setenv("HEARTH_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")  # of a unix socket, docker-py would leave one open


def inspected(tmp_path: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["inspect", *words, "--config", str(plant(tmp_path))], terminal_width=200)


def text_of(known: Known) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(shown(known))
    return captured.get()


def test_without_a_server_it_says_what_the_files_say(tmp_path: Path) -> None:
    done = inspected(tmp_path, "main", "--json")
    assert done.exit_code == 0, done.output
    known = json.loads(done.stdout)
    assert known["configuration"]["memory"] == 80 * 2**30
    assert known["compose"]["image"] == "own-vllm"
    assert known["compose"]["environment"] == ["FLASHINFER_WORKSPACE_BASE", "HF_HOME", "TRITON_CACHE_DIR",
                                               "VLLM_CACHE_ROOT"]  # fmt: skip
    assert known["catalogue"]["catalogue"]["weights"] == "example/main"
    assert "No server" in known["missing"]["server"]
    assert "Docker cannot be asked" in known["missing"]["container"]


def test_a_container_that_is_missing_is_created_with_its_own_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_there(*_: object) -> None:
        raise NotFound("no such container")

    monkeypatch.setattr("docker.APIClient", lambda **_: SimpleNamespace(inspect_container=not_there, close=list))
    said = inspected(tmp_path, "main").stdout
    assert "Docker has no container box-main: docker compose --profile models-built create box-main" in said


def test_rules_stand_as_in_the_configuration(tmp_path: Path) -> None:
    edit(plant(tmp_path).parent, "compose/litellm.yaml", "memory: 80GiB}",
         "memory: 80GiB}\n      request_rules: {images: refuse, reasoning_effort: {minimal: low}}")  # fmt: skip
    done = CliRunner().invoke(app, ["inspect", "main", "--config", str(tmp_path / "litellm_config.yaml")])
    assert "images: refuse, reasoning_effort: {minimal: low}" in " ".join(done.stdout.split())


def test_a_disabled_model_says_why(tmp_path: Path) -> None:
    done = inspected(tmp_path, "broken")
    assert done.exit_code == 0, done.output
    assert "disabled: never worked here" in done.stdout


def test_a_model_that_nobody_knows_is_exit_code_1(tmp_path: Path) -> None:
    done = inspected(tmp_path, "nobody")
    assert done.exit_code == 1
    assert "no model 'nobody'" in done.output


def test_a_container_that_was_killed_for_want_of_memory() -> None:
    state: dict[str, Any] = {"Status": "exited", "ExitCode": 137, "OOMKilled": True,
                             "StartedAt": "2026-01-31T12:00:00.123Z"}  # fmt: skip
    known = Known("m", container={"Name": "/box-m", "Id": "0123456789abcdef", "State": state})
    assert "exited, exit code 137, killed for want of memory" in text_of(known)
    assert "2026-01-31 12:00:00" in text_of(known)
    assert as_object(known)["container"]["id"] == "0123456789ab"
    state["StartedAt"] = "0001-01-01T00:00:00Z"
    assert "0001" not in text_of(known)


def test_what_a_card_says_is_shown_and_what_it_does_not_say_left_out() -> None:
    text = text_of(Known("m", card=Card(name="m", context=4096, tools=True, catalogue=Catalogue(family="test"))))
    assert "4,096 tokens" in text
    assert "good for" not in text
