"""Run the command as the user hearth, in the group that owns the Docker socket, whatever its number is on this machine.

It starts as root with the capabilities SETUID and SETGID and nothing else. Both are gone once the user has changed, for
good: the container runs with no-new-privileges.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

SOCKET = Path("/var/run/docker.sock")
USER = 10001


def main(command: list[str]) -> None:
    try:
        found = SOCKET.stat()
    except OSError as error:
        raise SystemExit(f"router: {SOCKET}: {error.strerror}; is Docker's socket mounted?") from error
    if not stat.S_ISSOCK(found.st_mode):
        raise SystemExit(f"router: {SOCKET} is not a socket; HEARTH_DOCKER_SOCKET in .env says where Docker's is")
    if os.geteuid() == 0:
        os.setgroups([found.st_gid])
        os.setgid(USER)
        os.setuid(USER)
    if not os.access(SOCKET, os.R_OK | os.W_OK):
        raise SystemExit(
            f"router: user {os.getuid()} with the groups {os.getgroups()} may not use {SOCKET}, which belongs to "
            f"{found.st_uid}:{found.st_gid} with mode {stat.S_IMODE(found.st_mode):o}; "
            "with user namespaces (userns-remap) this cannot work, and an own `user:` needs that group in `group_add:`"
        )
    os.execvp(command[0], command)  # noqa: S606  # the command is the image's own


if __name__ == "__main__":
    main(sys.argv[1:])
