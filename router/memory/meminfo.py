"""The system's memory, as Linux tells it in /proc/meminfo.

This is the memory of a GPU that has none of its own (DGX Spark and other boxes with unified memory). MemAvailable is
what programs can still get without swapping: the page cache counts as available, because the kernel gives it up. CUDA's
own figure on such a box leaves it out and is too low. The file is the host's in a container too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from router.errors import MemoryUnknown

_LINE = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class SystemMemory:
    """Bytes. available: what can be had. unused: what holds nothing at all, not even a cached file."""

    available: int
    unused: int


def parse(text: str) -> SystemMemory:
    """What the text of /proc/meminfo says. Raises MemoryUnknown."""
    kilobytes = {name: int(number) for name, number in _LINE.findall(text)}
    try:
        return SystemMemory(available=kilobytes["MemAvailable"] * 1024, unused=kilobytes["MemFree"] * 1024)
    except KeyError as error:
        raise MemoryUnknown(f"/proc/meminfo has no {error.args[0]}") from error


class Meminfo:
    """The file, read anew each time."""

    def __init__(self, path: Path = Path("/proc/meminfo")) -> None:
        self._path = path

    def read(self) -> SystemMemory:
        """Raises MemoryUnknown."""
        try:
            return parse(self._path.read_text(encoding="ascii", errors="replace"))
        except OSError as error:
            raise MemoryUnknown(f"{self._path}: {error.strerror}") from error
