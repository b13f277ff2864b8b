"""The documentation: its commands exist and those that need no server run, its links lead somewhere, its YAML is taken,
and what it says of errors, phases, events and metrics is what the code has."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from fake_hub import FakeHub, Repository
from markdown_page import Page
from typer.core import TyperGroup
from typer.exceptions import TyperException
from typer.testing import CliRunner, Result

from router import config, errors
from router.check import compose_file
from router.check.subject import PROFILES
from router.cli.main import app
from router.errors import Refusal
from router.settings import LifecycleSettings
from router.store.state import Phase

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PAGES = [Page(path) for pattern in ("*.md", "docs/**/*.md", ".github/*.md") for path in sorted(ROOT.glob(pattern))]
TROUBLESHOOTING = Page(ROOT / "docs" / "troubleshooting.md")
COMPOSE = compose_file.read(ROOT / "docker-compose.yml", {"LITELLM_MASTER_KEY": "sk-docs"})
#: What a page has its reader put beside that file.
BESIDE = yaml.safe_load((ROOT / "examples" / "remote-use" / "caddy.yml").read_text(encoding="utf-8"))

#: How the pages call the command, and what stands for it inside the words of another one.
HEARTH = (["hearth"], [".venv/bin/hearth"], ["docker", "compose", "exec", "gateway", "hearth"])
FETCH = ["docker", "compose", "run", "--rm", "fetch"]
#: What owners have and the project has not.
OWN = {"compose/models-own.yml", "compose/litellm-own.yaml"}
#: vLLM's own, which has a folder of the same name.
THEIRS = {"requirements/common.txt"}
#: Commands that need neither a server nor Docker, by how they begin.
ALONE = ("hearth check", "hearth models --family", "hearth simulate", "hearth add Qwen/")
#: What cannot run even so: it takes a vLLM, or a week's record.
NOT_HERE = ("--vllm", "--replay")
#: What Typer calls it when an argument is missing, and the value of an option; its module of exceptions is private.
_UNFINISHED = ("MissingParameter", "BadOptionUsage")
CHECKPOINT = {
    "architectures": ["Qwen3ForCausalLM"], "num_hidden_layers": 36, "num_attention_heads": 32, "hidden_size": 4096,
    "head_dim": 128, "num_key_value_heads": 8, "max_position_embeddings": 40960,
    "quantization_config": {"quant_method": "awq", "bits": 4},
}  # fmt: skip


def named(page: Page) -> str:
    return str(page.path.relative_to(ROOT))


def words_of_hearth(command: Sequence[str]) -> list[str] | None:
    """The words after `hearth`; None when it is another command."""
    for name in HEARTH:
        if list(command[: len(name)]) == name:
            return list(command[len(name) :])
    if list(command[: len(FETCH)]) == FETCH:
        return ["fetch", *command[len(FETCH) :]]
    return None


def commands_of_hearth(*, whole: bool) -> list[tuple[str, tuple[str, ...]]]:
    """Page and words of each command; whole: those that stand in a block, else those in the text."""
    found = {}
    for page in PAGES:
        for command in page.lines() if whole else page.mentions():
            words = words_of_hearth(command)
            if words and "..." not in words:
                found[(named(page), tuple(words))] = None
    return list(found)


def parsed(words: Sequence[str], *, whole: bool) -> None:
    """Raises TyperException on a word that is not taken. whole: nothing may be missing either."""
    command = typer.main.get_command(app)
    context = command.make_context("hearth", list(words))
    while isinstance(command, TyperGroup):
        name, following, rest = command.resolve_command(context, context._protected_args + context.args)
        assert following is not None
        command = following
        if isinstance(command, TyperGroup) and not rest:
            return  # a group by its name
        try:
            context = command.make_context(name, rest, parent=context)
        except TyperException as error:
            if whole or type(error).__name__ not in _UNFINISHED:
                raise
            return


def test_there_is_something_to_look_at() -> None:
    assert len(PAGES) > 20
    assert len(commands_of_hearth(whole=True)) > 30
    assert len(commands_of_hearth(whole=False)) > 50


@pytest.mark.parametrize(("page", "words"), commands_of_hearth(whole=True))
def test_a_command_is_one(page: str, words: tuple[str, ...]) -> None:
    parsed(words, whole=True)


@pytest.mark.parametrize(("page", "words"), commands_of_hearth(whole=False))
def test_a_command_in_the_text_is_one(page: str, words: tuple[str, ...]) -> None:
    parsed(words, whole=False)


@pytest.mark.parametrize(
    "words",
    [["chekc"], ["check", "--confg", "f"], ["models", "extra"], ["keys", "mint"], ["fetch", "a", "--wights", "d"]],
)
def test_what_there_is_not_is_noticed(words: list[str]) -> None:
    with pytest.raises(TyperException):
        parsed(words, whole=False)


def test_what_is_missing_is_noticed_in_a_whole_command() -> None:
    with pytest.raises(TyperException, match="model"):
        parsed(["wake"], whole=True)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_make_has_its_targets(page: Page) -> None:
    targets = set(re.findall(r"^([.a-z][a-z.-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for command in [*page.lines(), *page.mentions()]:
        if command[0] == "make":
            asked = [word for word in command[1:] if "=" not in word and not word.startswith("-")]
            assert set(asked) <= targets, command


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_compose_has_its_profiles_and_services(page: Page) -> None:
    for command in [*page.lines(), *page.mentions()]:
        if command[:2] != ["docker", "compose"]:
            continue
        words = command[2:]
        while words and words[0].startswith("-"):
            option = words.pop(0)
            if option == "--profile":
                assert words.pop(0) in (*PROFILES, "page-cache", "*"), command
        if words and words[0] in ("exec", "run", "logs", "restart"):
            services = [word for word in words[1:] if not word.startswith("-")]
            asked = services[:1] if words[0] in ("exec", "run") else services
            assert set(asked) <= {*COMPOSE.services, *BESIDE["services"]}, command


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_its_links_lead_somewhere(page: Page) -> None:
    for link in page.links():
        path, _, anchor = link.partition("#")
        target = (page.path.parent / path).resolve() if path else page.path
        assert target.exists(), link
        if anchor:
            assert anchor in Page(target).anchors(), link


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_files_and_modules_that_it_names_are_there(page: Page) -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}
    for span in page.spans:
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)+", span) and span.split("/")[0] in folders and "FAMILY" not in span:
            assert (ROOT / span).exists() or span in OWN | THEIRS, span
    for command in [*page.lines(), *page.mentions()]:
        if command[1:2] == ["-m"] and command[0].endswith("python"):
            assert importlib.util.find_spec(command[2]), command


SNIPPETS = [
    pytest.param(yaml.safe_load(text), id=f"{named(page)}-{number}")
    for page in PAGES
    for number, (language, text) in enumerate(page.blocks)
    if language == "yaml"
]


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_its_yaml_is_taken(snippet: dict[str, Any]) -> None:
    if set(snippet) == {"services"}:  # Compose's
        for form in snippet["services"].values():
            assert form
        return
    if set(snippet) <= set(LifecycleSettings.model_fields):
        asked = {*snippet.get("preload", []), snippet.get("default_model"), *(s["model"] for s in snippet["schedules"])}
        snippet = {"general_settings": {"lifecycle": snippet}, "model_list": [entry(name) for name in asked if name]}
    assert set(snippet) <= {"model_list", "general_settings", "include"}
    settings = snippet.setdefault("general_settings", {}).setdefault("lifecycle", {})
    settings.setdefault("gpus", {"0": {"memory": "119GiB"}})
    config.parse(snippet)


def entry(name: str) -> dict[str, Any]:
    return {
        "model_name": name,
        "litellm_params": {"model": f"hosted_vllm/{name}", "api_base": f"http://{name}:8000/v1"},
        "model_info": {"lifecycle": {"container": name, "memory": "10GiB"}},
    }


# --- what runs here


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a clone has, for commands that may write beside it."""
    copy = tmp_path_factory.mktemp("box")
    for part in ("litellm_config.yaml", "docker-compose.yml", "docker-compose.one-gpu.yml"):
        shutil.copy(ROOT / part, copy / part)
    for part in ("compose", "custom-docker-containers", "examples"):
        shutil.copytree(ROOT / part, copy / part)
    return copy


@pytest.fixture
def here(box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In that copy, where no server is found."""
    for name in [*os.environ]:
        if name.startswith(("HEARTH_", "HF_", "LITELLM_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.chdir(box)
    return box


def run(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> Result:
    files = {"config.json": json.dumps(CHECKPOINT).encode(), "model.safetensors": bytes(1000)}
    with FakeHub({"Qwen/Qwen3-8B-AWQ": Repository(files)}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        return CliRunner().invoke(app, list(words), terminal_width=200)


def run_here() -> list[str]:
    lines = dict.fromkeys(shlex.join(["hearth", *words]) for _, words in commands_of_hearth(whole=True))
    return [line for line in lines if line.startswith(ALONE) and not any(word in line for word in NOT_HERE)]


@pytest.mark.parametrize("line", run_here())
def test_what_needs_no_server_runs(line: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(shlex.split(line)[1:], monkeypatch)
    assert done.exit_code == 0, done.output
    if line.startswith("hearth check"):
        assert "0 errors, 0 warnings" in done.output


def test_of_each_kind_something_runs() -> None:
    for kind in ALONE:
        assert any(line.startswith(kind) for line in run_here()), kind


def test_the_quick_starts_own_choice_of_models(
    box: Path, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    shutil.copytree(box, own)
    for name in ("docker-compose.yml", "litellm_config.yaml"):
        text = (own / name).read_text(encoding="utf-8")
        text, lists = re.subn(r"^include:\n(  - .*\n)+", "include: []\n", text, flags=re.MULTILINE)
        text = re.sub(r'"0": \{memory: 119GiB.*?\}', '"0": {memory: 24GiB, reserve: 1GiB}', text)
        assert lists == 1
        (own / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(own)
    line = next(line for line in run_here() if line.startswith("hearth add Qwen/"))
    done = run([*(word for word in shlex.split(line)[1:] if word != "--dry-run"), "--yes"], monkeypatch)
    assert done.exit_code == 0, done.output
    assert run(["check", "--strict"], monkeypatch).exit_code == 0
    assert list(config.load(own / "litellm_config.yaml").models) == ["chat"]


def test_the_one_gpu_composition_has_all_that_the_control_plane_depends_on() -> None:
    small = compose_file.read(ROOT / "docker-compose.one-gpu.yml", {"LITELLM_MASTER_KEY": "sk-docs"})
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    for name in ("gateway", "router", "redis", "fetch"):
        service = document["services"][name]
        assert set(service.get("depends_on", {})) <= set(small.services)
        assert set(service["networks"]) <= small.networks
    assert small.networks == {"control", "models", "edge"}


# --- what it says of the code


def rows(page: Page, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading."""
    text = page.path.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_refusal_is_explained_with_its_status() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Refusal)]
    known = {(str(kind.status), f"`{kind.type}`") for kind in kinds}
    assert {(row[0], row[1]) for row in rows(TROUBLESHOOTING, "What a client is told")} == known


def test_every_phase_is_explained() -> None:
    text = TROUBLESHOOTING.path.read_text(encoding="utf-8").lower()
    for phase in Phase:
        assert re.search(rf"\b{phase}\b", text), phase


def test_its_metrics_and_events_are_ones() -> None:
    source = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "router").rglob("*") if path.suffix in (".py", ".lua")
    )
    metrics = {span for span in TROUBLESHOOTING.spans if re.fullmatch(r"hearth_\w+", span)}
    text = TROUBLESHOOTING.path.read_text(encoding="utf-8")
    events = set(re.findall(r"`([a-z-]+)`", text.partition("\nEvents: ")[2])) - {"asked-wake"}
    assert len(metrics) > 3
    assert len(events) > 12
    for name in metrics | events:
        assert f'"{name}"' in source or f"'{name}'" in source, name
    assert 'f"asked-{action}"' in source
