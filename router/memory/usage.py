"""What a model really takes: learned from its loads, and held against what it declares. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from router.scheduling import costs

#: A declaration is far too low when the model takes more by this share and by this many bytes. Below that are what an
#: engine holds outside its budget (about a GiB for CUDA's context and graphs), and what other programs took meanwhile.
TOO_LOW_SHARE: Final = 1.1
TOO_LOW_BYTES: Final = 2**30
#: And far too high when the model takes less than this share of it and this many bytes less: that costs only room.
TOO_HIGH_SHARE: Final = 0.75
TOO_HIGH_BYTES: Final = 2 * 2**30


class Declaration(StrEnum):
    """What the measured use says of the declared one."""

    UNKNOWN = ""
    FITTING = "fits"
    TOO_LOW = "too low"
    TOO_HIGH = "too high"


def used(before: Mapping[str, int], after: Mapping[str, int]) -> int | None:
    """Bytes that a load took of the GPU of which it took most; readings by GPU. None when nothing can be said: a GPU
    was not read both times, or more was free afterwards than before."""
    if not before or before.keys() != after.keys():
        return None
    most = max(free - after[gpu] for gpu, free in before.items())
    return most if most > 0 else None


def learned(known: int | None, measured: int) -> int:
    """Bytes: the robust average after one more load."""
    return round(costs.average(known, measured))


def declaration(declared: int, measured: int | None) -> Declaration:
    """Bytes per GPU; measured: None before the first."""
    if measured is None:
        return Declaration.UNKNOWN
    if measured > declared * TOO_LOW_SHARE and measured - declared > TOO_LOW_BYTES:
        return Declaration.TOO_LOW
    if measured < declared * TOO_HIGH_SHARE and declared - measured > TOO_HIGH_BYTES:
        return Declaration.TOO_HIGH
    return Declaration.FITTING
