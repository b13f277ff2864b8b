"""The Dockerfiles, and how the engine images are made of them: all is pinned, and nothing fails silently."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "custom-docker-containers"
DOCKERFILES = sorted(IMAGES.glob("*/Dockerfile"))
ENGINES = [path for path in DOCKERFILES if path.parent.name not in ("hearth", "redis")]
BAKE: dict[str, dict[str, Any]] = json.loads((IMAGES / "docker-bake.json").read_text(encoding="utf-8"))["target"]
#: Our own, between two of our images; they have no digest before they are built.
OWN = re.compile(r"(vllm-source:[\d.]+|vllm-node(-tf5)?)")


def name(path: Path) -> str:
    return path.parent.name


def hadolint(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "hadolint"
    command = [str(program), "--no-color", *arguments]
    return subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True, timeout=60, check=False)


def tags() -> dict[str, str]:
    """The target by each of its tags."""
    return {tag: target for target, made in BAKE.items() for tag in made.get("tags", [])}


def test_hadolint_finds_nothing() -> None:
    assert len(DOCKERFILES) >= 10
    done = hadolint(*map(str, DOCKERFILES))
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_would_find_something() -> None:
    assert "DL3008" in hadolint("-", text="FROM debian:12\nRUN apt-get update && apt-get install -y curl\n").stdout


def test_each_rule_that_is_passed_over_has_its_reason_beside_it() -> None:
    for path in DOCKERFILES:
        lines = path.read_text(encoding="utf-8").splitlines()
        for line, above in zip(lines[1:], lines, strict=False):
            if line.startswith("# hadolint ignore"):
                assert above.startswith("# "), f"{name(path)}: {line}"


@pytest.mark.parametrize("path", ENGINES, ids=name)
def test_a_step_that_fails_ends_the_build(path: Path) -> None:
    text = re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    steps = [step for step in re.split(r"\n(?=[A-Z]+ )", text) if step.startswith("RUN ")]
    assert steps or name(path) == "avarok"
    for step in steps:
        assert not re.search(r"\|\||\|\s*tee|;\s*true|set \+e|2>\s*/dev/null", step), step
        if re.search(r"[;|]", re.sub(r"'[^']*'|\"[^\"]*\"", "", step)):  # more than a chain of &&
            assert 'SHELL ["/bin/bash", "-euo", "pipefail", "-c"]' in text, step


@pytest.mark.parametrize("path", ENGINES, ids=name)
def test_bases_are_pinned(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    defaults = re.findall(r"^ARG (?:BASE|CUDA)_IMAGE=(.*)$", text, re.MULTILINE)
    assert len(defaults) == 1
    assert OWN.fullmatch(defaults[0]) or re.search(r":[^@]+@sha256:[0-9a-f]{64}$", defaults[0]), defaults
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE))
    for base in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        assert base in stages | {"${BASE_IMAGE}", "${CUDA_IMAGE}"}


@pytest.mark.parametrize("path", ENGINES, ids=name)
def test_what_is_installed_is_pinned(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    for command in re.findall(r"pip (?:install|download) [^&\n]*", text):
        checked = "--require-hashes" in command
        dated = "UV_EXCLUDE_NEWER=" in text and "--override /etc/torch.txt" in command
        ours = "--no-deps /wheels/" in command
        torch = "/torch.txt" in command and "--torch-backend" in command
        assert checked or dated or ours or torch, command
    assert not re.search(r"git clone|curl -|wget -|ADD http", text)


def test_every_lock_is_exact_and_has_checksums() -> None:
    locks = [path for path in IMAGES.glob("**/*.txt") if path.name != "torch.txt"]
    assert len(locks) >= 9
    for path in locks:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in filter(None, text.splitlines()):
            assert re.match(r"[a-z0-9._-]+==[\w.+!]+ +(; [^#]*?)?--hash=sha256:[0-9a-f]{64}", line), (
                f"{path}: {line[:80]}"
            )
    for path in IMAGES.glob("**/torch.txt"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert re.fullmatch(r"[a-z]+==[\d.]+", line), f"{path}: {line}"


def test_commits_are_full() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in ENGINES)
    given = re.findall(r"^ARG \w+_COMMIT=(.*)$", text, re.MULTILINE)
    given += [value for made in BAKE.values() for key, value in made.get("args", {}).items() if key.endswith("_COMMIT")]
    assert len(given) == 6
    assert [commit for commit in given if not re.fullmatch(r"[0-9a-f]{40}", commit)] == []


@pytest.mark.parametrize("path", ENGINES, ids=name)
def test_images_say_what_they_are_and_hold_no_secret(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(KEY|SECRET|PASSWORD|HF_TOKEN)\s*=", text)
    assert "HEALTHCHECK" not in text, "the compose file has it"
    if name(path) != "vllm-source":
        assert "org.opencontainers.image.title=" in text
    if not re.search(r"BASE_IMAGE=vllm", text):  # the others have these from the image they are made of
        assert "org.opencontainers.image.source=" in text
        assert "org.opencontainers.image.licenses=" in text


def test_every_target_has_its_parts() -> None:
    made = [target for target in BAKE if target != "engine"]
    for target in made:
        given = BAKE[target]
        assert given["inherits"] == ["engine"]
        path = IMAGES / given["dockerfile"]
        assert path in ENGINES
        text = path.read_text(encoding="utf-8")
        for argument in given.get("args", {}):
            assert re.search(rf"^ARG {argument}\b", text, re.MULTILINE), f"{target}: {argument}"
        for base, context in given.get("contexts", {}).items():
            assert f"BASE_IMAGE={base}\n" in text, f"{target}: {base} is not what it is made of"
            kind, _, other = context.partition(":")
            assert kind == "target"
            assert other in BAKE
            assert base in BAKE[other].get("tags", [base])
    assert {BAKE[target]["dockerfile"] for target in made} == {f"{name(path)}/Dockerfile" for path in ENGINES}
    assert len(tags()) == sum(len(BAKE[target].get("tags", [])) for target in made)


def test_every_patch_is_used_and_every_patch_that_is_used_is_there() -> None:
    texts = [path.read_text(encoding="utf-8") for path in ENGINES]
    used = {word for made in BAKE.values() for word in made.get("args", {}).get("PATCHES", "").split()}
    for text in texts:
        used |= set(re.findall(r"^ARG PATCHES=(\w+)$", text, re.MULTILINE))
        for words in re.findall(r"-m patches /opt/venv/\S+ (?:\\\n\s+)?([a-z0-9_ ]+)$", text, re.MULTILINE):
            used |= set(words.split())
    there = {path.stem for path in (IMAGES / "patches").glob("*.py")} - {"__init__", "__main__", "patching"}
    assert used == there


def test_every_image_that_models_want_from_this_box_can_be_made() -> None:
    services = yaml.safe_load((ROOT / "compose" / "engine.yml").read_text(encoding="utf-8"))["services"]
    built = [form["image"] for form in services.values() if form.get("pull_policy") == "never"]
    wanted = {re.sub(r"^\$\{HEARTH_IMAGE_\w+:-([^}]+)\}$", r"\1", image) for image in built}
    assert len(wanted) > 5
    assert wanted <= set(tags())


def test_the_page_names_every_target() -> None:
    page = (ROOT / "docs" / "images.md").read_text(encoding="utf-8")
    assert [tag for tag in tags() if f"`{tag}`" not in page] == []
