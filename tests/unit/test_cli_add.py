"""`hearth add` on a small box: what it reads, what it writes, and that `hearth check` takes it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_tree import ENVIRONMENT, edit, plant
from fake_hub import FakeHub, Repository
from typer.testing import CliRunner, Result

from router.adding.source import running
from router.check.run import run as check
from router.cli.main import app
from router.config import load
from router.errors import ConfigError

pytestmark = pytest.mark.unit

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 32, "num_attention_heads": 32, "hidden_size": 4096,
    "num_key_value_heads": 8, "max_position_embeddings": 131072, "torch_dtype": "bfloat16",
    "quantization_config": {"quant_method": "awq", "bits": 4},
}  # fmt: skip
IMAGE = ("--image", "example/vllm:1")
WEIGHTS = 70 * 2**30


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith(("HEARTH_", "HF_", "LITELLM_")):
            monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    return plant(tmp_path / "box")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A directory with a model whose index says that it is large."""
    directory = tmp_path / "My-Llama-70B"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(CONFIG))
    index = {"metadata": {"total_size": WEIGHTS}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory


def add(box: Path, *words: object, answer: str | None = None) -> Result:
    command = ["add", *(str(word) for word in words), "--config", str(box)]
    return CliRunner().invoke(app, command, input=answer, terminal_width=500)


def texts(box: Path) -> dict[str, str]:
    return {str(file.relative_to(box.parent)): file.read_text() for file in box.parent.rglob("*.y*ml")}


def test_what_is_added_passes_the_check_and_leaves_all_else(box: Path, checkpoint: Path) -> None:
    before = texts(box)
    done = add(box, checkpoint, *IMAGE, "--yes", "--family", "llama")
    assert done.exit_code == 0, done.output
    config = load(box)
    spec, card = config.models["my-llama-70b"], config.cards["my-llama-70b"]
    # 131072 tokens take 16 GiB and the weights 76.5 with what comes beside them: more than the 84 beside the utility
    assert card.context is not None
    assert 0 < card.context < 131072
    assert card.context % 1024 == 0
    assert WEIGHTS < spec.memory <= 84 * 2**30
    assert card.catalogue.quantization == "AWQ, 4 bit"
    assert f"{card.context:,} is what fits" in done.output
    outcome = check(box, None, os.environ, None)
    assert [finding for finding in outcome.findings if "llama" in finding.message] == []
    assert outcome.services == 4
    after = texts(box)
    for name, text in before.items():
        assert all(line in after[name].splitlines() for line in text.splitlines()), f"{name} lost a line"
        assert len(after[name].splitlines()) <= len(text.splitlines()) + 1


def test_the_second_is_appended_and_the_undo_is_right(box: Path, checkpoint: Path) -> None:
    assert add(box, checkpoint, *IMAGE, "--yes").exit_code == 0
    own = box.parent / "compose" / "models-own.yml"
    own.write_text(own.read_text().replace("services:", "services:  # mine"))
    before = texts(box)
    done = add(box, checkpoint, *IMAGE, "--yes", "--name", "again", "--context", "4096", "--utilization", "0.83")
    assert done.exit_code == 0, done.output
    assert load(box).models["again"].memory == 83 * 2**30
    assert "# mine" in own.read_text()
    assert done.output.count("Wrote") == 2, "both are included already"
    for line in done.output.splitlines():
        if line.startswith("Wrote "):
            name, _, lines = line.removeprefix("Wrote ").partition("; to undo, remove lines ")
            first, last = (int(word.rstrip(".")) for word in lines.split(" to "))
            path = Path(name)
            kept = path.read_text().splitlines()
            path.write_text("\n".join(kept[: first - 1] + kept[last:]) + "\n")
    assert texts(box) == before


def test_nothing_is_written_without_a_yes(box: Path, checkpoint: Path) -> None:
    before = texts(box)
    shown = add(box, checkpoint, *IMAGE, "--dry-run")
    assert shown.exit_code == 0
    assert "+  - model_name: my-llama-70b" in shown.output
    refused = add(box, checkpoint, *IMAGE, answer="n\n")
    assert refused.exit_code == 1
    assert texts(box) == before
    assert add(box, checkpoint, *IMAGE, answer="y\n").exit_code == 0
    assert texts(box) != before


def test_what_cannot_be_added_is_told_and_nothing_written(box: Path, checkpoint: Path, tmp_path: Path) -> None:
    before = texts(box)
    other = checkpoint.parent / "config-only"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"architectures": ["Other"]}))
    faults: dict[tuple[object, ...], str] = {
        (checkpoint, *IMAGE, "--name", "main"): "has a model 'main' already",
        (checkpoint, *IMAGE, "--context", "131072"): "give a smaller --context",
        (checkpoint, "--image", "avarok"): "neither an image nor a service",
        (checkpoint, "--image", "example/vllm"): "image-unpinned",
        (checkpoint, *IMAGE, "--gpu", "7"): "no GPU '7'",
        (checkpoint, *IMAGE, "--name", "a: b"): "--name 'a: b': a model's name has letters",
        (checkpoint, *IMAGE, "--name", "\u65e5\u672c"): "a model's name has letters of English",
        (checkpoint, *IMAGE, "--name", ""): "a model's name has letters",
        (other, *IMAGE): "give --context",
        (other, *IMAGE, "--context", "4096"): "give --utilization",
        (tmp_path / "nowhere", *IMAGE): "cannot be read",
    }
    for words, said in faults.items():
        done = add(box, *words, "--yes")
        assert done.exit_code == 1, (words, done.output)
        assert said in done.output
    assert add(box).exit_code == add(box, checkpoint, "--container", "x").exit_code == 2
    assert texts(box) == before
    edit(box.parent, "litellm_config.yaml", "include:\n  - compose/litellm.yaml", "include: [compose/litellm.yaml]")
    assert "lines of their own" in add(box, checkpoint, *IMAGE, "--yes").output


def test_from_hugging_face_only_the_config_is_fetched(
    box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"config.json": json.dumps(CONFIG | {"vision_config": {}}).encode(), "model.safetensors": bytes(5000)}
    with FakeHub({"example/Seeing-1B": Repository(files)}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        done = add(box, "example/Seeing-1B", *IMAGE, "--context", "8192", "--tool-parser", "hermes", "--yes")
        assert done.exit_code == 0, done.output
        assert [name for method, name, _ in hub.asked if method == "GET"] == ["config.json"]
    card = load(box).cards["seeing-1b"]
    assert (card.catalogue.weights, card.vision, card.tools) == ("example/Seeing-1B", True, True)
    service = yaml.safe_load((box.parent / "compose" / "models-own.yml").read_text())["services"]["vllm-seeing-1b"]
    assert service["command"][:3] == ["vllm", "serve", "example/Seeing-1B"]
    assert "--tool-call-parser=hermes" in service["command"]


@pytest.mark.parametrize(
    ("broken", "second"),
    [
        ("compose/models-own.yml", False),
        ("compose/litellm-own.yaml", False),
        ("docker-compose.yml", False),
        ("litellm_config.yaml", False),
        ("compose/models-own.yml", True),
        ("compose/litellm-own.yaml", True),
    ],
)
def test_a_write_that_fails_leaves_all_as_it_was(
    box: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, broken: str, *, second: bool
) -> None:
    words = [checkpoint, *IMAGE, "--yes", "--context", "4096", "--utilization", "0.8"]
    if second:
        assert add(box, *words, "--name", "first").exit_code == 0
    before = contents(box)
    replace = Path.replace

    def failing(self: Path, target: Path) -> Path:
        if target == box.parent / broken and self.read_text() != before.get(broken):
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    done = add(box, *words)
    assert done.exit_code == 1
    assert f"{broken} cannot be written: No space left" in done.output
    assert contents(box) == before


def test_a_file_that_changes_meanwhile_is_not_overwritten(
    box: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def confirm(_: str) -> bool:
        edit(box.parent, "docker-compose.yml", "services:", "services:  # changed while it was asked")
        return True

    monkeypatch.setattr("typer.confirm", confirm)
    before = contents(box)
    done = add(box, checkpoint, *IMAGE)
    assert done.exit_code == 1
    assert "was changed meanwhile" in done.output
    edit(box.parent, "docker-compose.yml", "services:  # changed while it was asked", "services:")
    assert contents(box) == before


def contents(box: Path) -> dict[str, str]:
    """All files of the box, temporary ones too."""
    return {str(file.relative_to(box.parent)): file.read_text() for file in box.parent.rglob("*") if file.is_file()}


def inspected(**config: Any) -> dict[str, Any]:
    return {"Name": "/old", "Image": "sha256:1", "HostConfig": {"Binds": ["/srv/models:/models", "named:/x"]},
            "Config": {"Image": "example/vllm:1", "Env": ["PATH=/bin", "HF_TOKEN=hf_secret", "A=$1"],
                       **config}}  # fmt: skip


FROM_IMAGE = {"RepoDigests": ["example/vllm@sha256:" + "ab" * 32], "Config": {"Env": ["PATH=/bin"]}}


def test_a_container_is_read_without_its_secrets() -> None:
    words = ["serve", "org/m", "--max-model-len", "4096", "--port", "9000", "--enforce-eager"]
    found = running(inspected(Entrypoint=["vllm"], Cmd=words), FROM_IMAGE)
    assert found.prefix == ("vllm", "serve")
    assert found.image == "example/vllm:1@sha256:" + "ab" * 32
    assert found.environment == (("HF_TOKEN", "${HF_TOKEN:-}"), ("A", "$$1"))
    assert found.engine.model == "org/m"
    assert not found.script
    script = running(inspected(Entrypoint=["bash", "-c"], Cmd=["cd /x && vllm serve org/m --port 9000"]), FROM_IMAGE)
    assert script.script
    assert script.prefix == ("vllm", "serve")
    with pytest.raises(ConfigError, match="no engine that is known"):
        running(inspected(Entrypoint=["nginx"], Cmd=[]), FROM_IMAGE)


def test_a_container_becomes_a_service_with_its_options(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["serve", "org/m", "--max-model-len", "4096", "--port", "9000", "--enforce-eager", "--host=127.0.0.1"]
    found = running(inspected(Entrypoint=["vllm"], Cmd=words), FROM_IMAGE)
    monkeypatch.setattr("router.adding.source.of_container", lambda _: found)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    done = add(box, "--container", "old", "--utilization", "0.5", "--yes")
    assert done.exit_code == 0, done.output
    assert "hf_secret" not in done.output
    service = yaml.safe_load((box.parent / "compose" / "models-own.yml").read_text())["services"]["vllm-m"]
    assert service["command"] == ["vllm", "serve", "org/m", "--enforce-eager", "--served-model-name=m",
                                  "--host=0.0.0.0", "--port=8000", "--max-model-len=4096",
                                  "--gpu-memory-utilization=0.50"]  # fmt: skip
    assert service["volumes"] == ["cache-example-vllm-1:/cache", "/srv/models:/models"]
    assert load(box).models["m"].memory == 50 * 2**30
