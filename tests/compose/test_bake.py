"""Docker's own reading of the file that says how the engine images are made. Nothing is built."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FILE = Path("custom-docker-containers/docker-bake.json")
TARGETS = [name for name in json.loads((ROOT / FILE).read_text(encoding="utf-8"))["target"] if name != "engine"]

pytestmark = pytest.mark.compose


def bake(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["docker", "buildx", "bake", "--file", str(FILE), "--print", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module", autouse=True)
def buildx() -> None:
    try:
        done = subprocess.run(["docker", "buildx", "version"], capture_output=True, timeout=30, check=False)
    except FileNotFoundError:
        pytest.skip("no docker command")
    if done.returncode:
        pytest.skip("docker has no buildx plugin")


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_is_read_with_all_that_it_is_made_of(target: str) -> None:
    done = bake(target)
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = json.loads(done.stdout)["target"]
    assert target in read
    for name, given in read.items():
        assert given["context"] == "custom-docker-containers", name
        assert (ROOT / given["context"] / given["dockerfile"]).is_file(), name
        for context in given.get("contexts", {}).values():
            assert context.removeprefix("target:") in read, f"{name} is made of {context}"


def test_all_without_a_name() -> None:
    done = bake()
    assert done.returncode == 0, done.stderr
    assert "vllm-node-mxfp4" in json.loads(done.stdout)["target"]
