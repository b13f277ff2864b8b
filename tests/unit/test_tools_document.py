"""The commands in docs/tools.md are ones that there are; those that need no server and no Docker are run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer
from fake_hub import FakeHub, Repository
from typer.testing import CliRunner

from router.cli.main import app

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
CONFIG = {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 64,
          "max_position_embeddings": 32768}  # fmt: skip


def commands() -> list[str]:
    text = (ROOT / "docs" / "tools.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("hearth ")]


RUN_HERE = [
    line for line in commands() if line.startswith(("hearth add ", "hearth fetch ")) and "--container" not in line
]


def test_every_tool_is_there() -> None:
    assert {line.split()[1] for line in commands()} == {"smoke", "soak", "inspect", "fetch", "add"}
    assert len(RUN_HERE) >= 3


@pytest.mark.parametrize("line", commands())
def test_its_words_are_taken(line: str) -> None:
    group = typer.main.get_command(app)
    context = group.make_context("hearth", shlex.split(line)[1:])
    name, command, words = group.resolve_command(context, context._protected_args + context.args)  # type: ignore[attr-defined]
    command.make_context(name, words, parent=context)  # raises on a word that it does not take


@pytest.mark.parametrize("line", RUN_HERE)
def test_it_does_what_it_says(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith(("HEARTH_", "HF_")):
            monkeypatch.delenv(name)
    for part in ("litellm_config.yaml", "docker-compose.yml"):
        shutil.copy(ROOT / part, tmp_path / part)
    for part in ("compose", "custom-docker-containers"):
        shutil.copytree(ROOT / part, tmp_path / part)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "checkpoint" / "model.safetensors").write_bytes(bytes(1000))
    monkeypatch.chdir(tmp_path)
    files = {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": bytes(1000)}
    with FakeHub({"example/main": Repository(files)}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        done = CliRunner().invoke(app, shlex.split(line)[1:], input="y\n")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "compose" / "models-own.yml").exists() is (" add " in line and "--dry-run" not in line)
