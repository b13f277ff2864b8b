"""What the test stack's models have for a `command`: the engine simulator, and a record of its starts.

`python engine_launcher.py JOURNAL OPTIONS GPU -- ARGUMENTS`. Each start adds its pid to the file JOURNAL. The file
OPTIONS holds further arguments, so that a test decides how the next start goes. GPU names a file that the process keeps
locked while it lives; a second engine on the same file writes `overlap` to its journal and ends with code 97. So the
kernel notices every instant at which two models run that do not fit. `-` stands for a GPU that has room for all.
"""

import fcntl
import os
import shlex
import sys
from pathlib import Path

from router.engine_simulator.options import parse
from router.engine_simulator.process import main

OVERLAP = 97


def launch(journal: Path, options: Path, gpu: str, arguments: list[str]) -> int:
    """Run the simulator until it ends; its exit code."""
    entry = str(os.getpid())
    lock = None if gpu == "-" else Path(gpu).open("a")  # noqa: SIM115 - held until the process ends
    if lock is not None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            entry = "overlap"
    with journal.open("a") as starts:
        starts.write(f"{entry}\n")
    if entry == "overlap":
        return OVERLAP
    extra = shlex.split(options.read_text()) if options.exists() else []
    return main(parse([*arguments, *extra]), access_log=False)


if __name__ == "__main__":
    sys.exit(launch(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[5:]))
