"""The state directory, the key and the note: what others could read or replace is refused."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.errors import ConfigError
from router.supervisor import master_key
from router.supervisor.failures import StartRefused
from router.supervisor.state_directory import StateDirectory


@pytest.fixture(autouse=True)
def short_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_everything_is_private_and_the_sockets_go(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state")
    try:
        for path in (state.path, state.sockets, state.path / "redis", state.log("router").parent):
            assert mode(path) == 0o700
        state.socket("redis").touch()
    finally:
        state.close()
    assert not state.sockets.exists()


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A directory of this user alone, with a path short enough for sockets, which pytest's own need not have."""
    with tempfile.TemporaryDirectory(prefix="hearth-") as directory:
        yield Path(directory)


def test_the_sockets_are_in_the_users_runtime_directory(
    tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    state = StateDirectory(tmp_path / "state")
    assert state.sockets.parent == runtime
    state.close()
    runtime.chmod(0o755)  # somebody else could list it, so it is no runtime directory
    state = StateDirectory(tmp_path / "state")
    assert state.sockets.parent != runtime
    state.close()


def test_only_one_server_a_directory(tmp_path: Path) -> None:
    first = StateDirectory(tmp_path)
    with pytest.raises(StartRefused, match=f"process {os.getpid()}"):
        StateDirectory(tmp_path)
    first.close()
    StateDirectory(tmp_path).close()


def test_a_child_that_outlives_its_server_holds_the_directory(tmp_path: Path) -> None:
    """After a `kill -9` the next server waits until the last child has ended."""
    script = (
        "import os, subprocess, sys; from pathlib import Path\n"
        "from router.supervisor.state_directory import StateDirectory\n"
        "state = StateDirectory(Path(sys.argv[1]))\n"
        "child = subprocess.Popen(['cat'], stdin=0, pass_fds=[state.lock_fd])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    reading, writing = os.pipe()
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], stdin=reading, check=False, timeout=30)
    os.close(reading)
    releaser = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"], pass_fds=[writing])
    os.close(writing)  # `cat` ends when the last writer, the releaser, has ended
    StateDirectory(tmp_path).close()
    assert releaser.wait(10) == 0


def test_a_directory_that_others_can_write_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(StartRefused, match=r"chmod 700"):
        StateDirectory(shared)


def test_a_socket_directory_that_was_put_there_is_refused(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state")
    sockets = state.sockets
    state.close()
    sockets.symlink_to(tmp_path)
    try:
        with pytest.raises(StartRefused, match="not a directory of yours"):
            StateDirectory(tmp_path / "state")
    finally:
        sockets.unlink()
    sockets.mkdir(mode=0o755)
    try:
        with pytest.raises(StartRefused, match="chmod 700"):
            StateDirectory(tmp_path / "state")
    finally:
        sockets.rmdir()


def test_a_path_too_long_for_sockets_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with pytest.raises(StartRefused, match="TMPDIR"):
        StateDirectory(tmp_path / "state")


def test_the_key_is_made_once_and_kept(tmp_path: Path) -> None:
    made = master_key.obtain({}, tmp_path)
    assert made.file is not None
    assert mode(made.file) == 0o600
    assert made.value.startswith("sk-")
    assert len(made.value) > 40
    assert master_key.obtain({}, tmp_path) == made
    assert made.value not in repr(made)


def test_the_environment_wins(tmp_path: Path) -> None:
    found = master_key.obtain({"LITELLM_MASTER_KEY": "sk-of-the-environment"}, tmp_path)
    assert (found.value, found.file) == ("sk-of-the-environment", None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("weak", ["", "  ", "sk-1234", "sk-with a space in it", "sk-with-ümlaut-in-it"])
def test_a_weak_key_is_refused(tmp_path: Path, weak: str) -> None:
    with pytest.raises(StartRefused, match="LITELLM_MASTER_KEY"):
        master_key.obtain({"LITELLM_MASTER_KEY": weak}, tmp_path)
    path = tmp_path / "master-key"
    path.touch(mode=0o600)
    path.write_text(weak)
    with pytest.raises(StartRefused, match="remove the file"):
        master_key.obtain({}, tmp_path)


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    found = master_key.obtain({}, tmp_path)
    assert found.file is not None
    found.file.chmod(0o640)
    with pytest.raises(StartRefused, match=r"chmod 600"):
        master_key.obtain({}, tmp_path)


def test_the_configuration_must_leave_the_key_to_the_environment() -> None:
    master_key.require_from_environment(None)
    master_key.require_from_environment("os.environ/LITELLM_MASTER_KEY")
    for written in ("sk-written-down", "os.environ/OTHER", 7):
        with pytest.raises(ConfigError):
            master_key.require_from_environment(written)
