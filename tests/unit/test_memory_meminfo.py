"""/proc/meminfo: a real file's text, the machine's own, and ones that cannot be used."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from router.errors import MemoryUnknown
from router.memory.meminfo import Meminfo, parse

#: Of a virtual machine with kernel 6.18, whole.
REAL = """\
MemTotal:       24684092 kB
MemFree:        23249704 kB
MemAvailable:   24121980 kB
Buffers:           74492 kB
Cached:           790432 kB
SwapCached:            0 kB
Active:           383176 kB
Inactive:         553680 kB
Active(anon):       1588 kB
Inactive(anon):    79200 kB
Active(file):     381588 kB
Inactive(file):   474480 kB
HugePages_Total:       0
HugePages_Free:        0
Hugepagesize:       2048 kB
DirectMap4k:      137004 kB
"""


def test_available_and_unused_in_bytes() -> None:
    found = parse(REAL)
    assert (found.available, found.unused) == (24121980 * 1024, 23249704 * 1024)


def test_this_machine() -> None:
    found = Meminfo().read()
    total = psutil.virtual_memory().total
    assert 0 < found.unused <= total
    assert 0 < found.available <= total


@pytest.mark.parametrize("missing", ["MemAvailable", "MemFree"])
def test_text_without_what_is_needed(missing: str) -> None:
    with pytest.raises(MemoryUnknown, match=missing):
        parse("\n".join(line for line in REAL.splitlines() if not line.startswith(missing)))


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(MemoryUnknown, match="meminfo: No such file"):
        Meminfo(tmp_path / "meminfo").read()
