"""`building/checkout` against a git repository of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2] / "custom-docker-containers" / "building" / "checkout"

#: No settings of the machine or of who runs the tests.
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "CHECKOUT_PAUSE": "0"}


def git(directory: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(directory), *arguments]
    return subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=30, check=True
    ).stdout.strip()


@dataclass
class Repository:
    path: Path
    commits: list[str]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    if shutil.which("git") is None:
        pytest.skip("no git")
    path = tmp_path / "published"
    path.mkdir()
    git(path, "init", "--quiet")
    git(path, "config", "uploadpack.allowReachableSHA1InWant", "true")  # as public hosts do
    commits = []
    for text in ("first", "second"):
        (path / "file").write_text(text, encoding="utf-8")
        git(path, "add", "file")
        git(path, "commit", "--quiet", "--message", text)
        commits.append(git(path, "rev-parse", "HEAD"))
    return Repository(path, commits)


def checkout(repository: Repository, commit: str, into: Path) -> subprocess.CompletedProcess[str]:
    command = [str(CHECKOUT), repository.path.as_uri(), commit, str(into)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("number", [0, 1])
def test_one_commit_and_nothing_else(repository: Repository, tmp_path: Path, number: int) -> None:
    into = tmp_path / "source"
    done = checkout(repository, repository.commits[number], into)
    assert done.returncode == 0, done.stderr
    assert (into / "file").read_text(encoding="utf-8") == ("first", "second")[number]
    assert git(into, "rev-list", "--all", "HEAD").split() == [repository.commits[number]]


def test_a_commit_that_is_not_there(repository: Repository, tmp_path: Path) -> None:
    done = checkout(repository, "0" * 40, tmp_path / "source")
    assert done.returncode == 1
    assert "does not give" in done.stderr


@pytest.mark.parametrize("name", ["main", "master", "HEAD", "short", "tag"])
def test_a_name_is_not_a_commit(repository: Repository, tmp_path: Path, name: str) -> None:
    wanted = repository.commits[0][:12] if name == "short" else name
    done = checkout(repository, wanted, tmp_path / "source")
    assert done.returncode == 2
    assert "not a full commit hash" in done.stderr
