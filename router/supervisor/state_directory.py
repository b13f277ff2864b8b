"""The directory that one embedded server keeps its state in, and the short-lived one for its sockets.

Only one server may use a state directory: two Redis servers on one append-only file would destroy it. The lock is on an
open file that Redis and the gateway inherit, so it is held until the last of them has ended, also after a `kill -9`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
import time
from pathlib import Path

import psutil

from router.supervisor.failures import StartRefused

#: Linux's limit on the path of a unix socket, in bytes, with the ending zero.
_SOCKET_PATH_LIMIT = 108
_LONGEST_SOCKET_NAME = "/gateway.sock"
#: How long (s) the children of a killed supervisor get to end before we give up.
_LEFTOVERS_LIMIT = 30.0


class StateDirectory:
    """`path` holds what outlives the server, `sockets` its unix sockets. Close it at the end."""

    def __init__(self, path: Path) -> None:
        """Makes the directories and takes the lock. Raises StartRefused."""
        self.path = path.resolve()
        _make_private(self.path, "state directory", strict=False)
        self.lock_fd = _take_lock(self.path)
        try:
            self.sockets = _socket_directory(self.path)
            for name in ("logs", "redis"):
                _make_private(self.path / name, "directory", strict=False)
            self._remove_sockets()
        except BaseException:
            os.close(self.lock_fd)
            raise

    def log(self, part: str) -> Path:
        return self.path / "logs" / f"{part}.log"

    def socket(self, part: str) -> Path:
        return self.sockets / f"{part}.sock"

    def close(self) -> None:
        """Remove the sockets and let go of the lock."""
        self._remove_sockets()
        with contextlib.suppress(OSError):
            self.sockets.rmdir()
        os.ftruncate(self.lock_fd, 0)
        os.close(self.lock_fd)

    def _remove_sockets(self) -> None:
        for path in self.sockets.glob("*.sock"):
            path.unlink(missing_ok=True)


def _take_lock(directory: Path) -> int:
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    deadline = time.monotonic() + _LEFTOVERS_LIMIT
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = _read_pid(descriptor)
                if holder is not None and psutil.pid_exists(holder):
                    raise StartRefused(
                        f"Another `hearth up` (process {holder}) uses {directory}. "
                        f"Stop it, or give this one a directory of its own with --state-dir."
                    ) from None
                if time.monotonic() > deadline:
                    raise StartRefused(
                        f"Processes of an earlier `hearth up` on {directory} have not ended; "
                        f"its logs directory says what they do."
                    ) from None
                time.sleep(0.1)
    except BaseException:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _read_pid(descriptor: int) -> int | None:
    text = os.pread(descriptor, 20, 0).strip()
    return int(text) if text.isdigit() else None


def _socket_directory(state: Path) -> Path:
    """A private directory whose path is short enough for sockets; its name depends on the state directory only."""
    mark = hashlib.sha256(os.fsencode(state)).hexdigest()[:12]
    places = [Path(tempfile.gettempdir()) / f"hearth-{os.getuid()}-{mark}"]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and _is_private(Path(runtime)):
        places.insert(0, Path(runtime) / f"hearth-{mark}")
    for place in places:
        if len(os.fsencode(place)) + len(_LONGEST_SOCKET_NAME) < _SOCKET_PATH_LIMIT:
            _make_private(place, "socket directory", strict=True)
            return place
    raise StartRefused(f"The path {places[-1]} is too long for unix sockets; set TMPDIR to a shorter directory.")


def _is_private(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def _make_private(path: Path, what: str, *, strict: bool) -> None:
    """Make `path` with mode 0700. One that exists must be ours and not writable, or (strict) not even readable, by
    others. Raises StartRefused."""
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise StartRefused(f"The {what} {path} cannot be made: {error.strerror}.") from error
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise StartRefused(f"The {what} {path} is not a directory of yours; remove it or choose another place.")
    if found.st_mode & (0o077 if strict else 0o022):
        raise StartRefused(f"The {what} {path} is open to other users; run: chmod 700 {path}")
