"""Drops the kernel's page cache when somebody connects to its socket. That is all it does: it reads nothing from them.

    python -I page_cache_helper.py SOCKET DROP_CACHES

DROP_CACHES is the machine's /proc/sys/vm/drop_caches. Only its owner root may write it, but root needs no further right
for that: docker-compose.yml runs this without any capability, without a network, and with this one file of the host.
Only files that are cached go, nothing that is not on disk already, so all that can be lost is time.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

#: Cached files only; 2 and 3 would drop directory entries too, and slow down everything that opens a file.
PAGE_CACHE = "1\n"
#: Seconds within which a second one is not worth it.
PAUSE = 5.0


def main(place: str, drop_caches: str) -> None:
    path = Path(place)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(place)
        path.chmod(0o666)  # whoever can reach its directory may ask
        listener.listen(4)
        dropped_at = -PAUSE
        while True:
            connection, _ = listener.accept()
            with connection:
                answer = "dropped"
                if time.monotonic() - dropped_at >= PAUSE:
                    try:
                        os.sync()  # what is not on disk yet cannot be dropped
                        Path(drop_caches).write_text(PAGE_CACHE, encoding="ascii")
                        dropped_at = time.monotonic()
                    except OSError as error:
                        answer = f"{drop_caches}: {error.strerror}"
                try:
                    connection.sendall(f"{answer}\n".encode())
                except OSError:
                    continue  # it did not wait


if __name__ == "__main__":
    main(*sys.argv[1:])
