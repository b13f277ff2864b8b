"""The note that `hearth up` leaves while it runs, so that the other commands find the server without flags."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class RunningServer:
    """url: the gateway's address. key_file: None when the key came from the environment. pid: the supervisor's."""

    url: str
    key_file: str | None
    pid: int

    def publish(self) -> None:
        """Leave the note; it holds no secret. The server that was started last is the one that is found. A home that
        cannot be written to only means that the commands need --url."""
        with contextlib.suppress(OSError):
            path = _path()
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = path.with_name(f"{path.name}.{os.getpid()}")
            fresh.write_text(json.dumps(asdict(self)), encoding="utf-8")
            fresh.replace(path)

    def withdraw(self) -> None:
        """Remove the note, unless another server has left its own meanwhile."""
        if _read() == self:
            with contextlib.suppress(OSError):
                _path().unlink()


def find() -> RunningServer | None:
    """The server that runs, if its note is there and its supervisor is alive."""
    found = _read()
    return found if found is not None and psutil.pid_exists(found.pid) else None


def _read() -> RunningServer | None:
    try:
        path = _path()
        if path.stat().st_uid != os.getuid():
            return None
        note = json.loads(path.read_text(encoding="utf-8"))
        key_file = note["key_file"]
        return RunningServer(str(note["url"]), None if key_file is None else str(key_file), int(note["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _path() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "hearth" / "running.json"
