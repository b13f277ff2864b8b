"""Durations and sizes as people write them in the configuration: `15m`, `1h30m`, `70GiB`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNIT_BYTES = {
    "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?B)", re.IGNORECASE)


def parse_duration(value: object) -> float:
    """Seconds of `value`: a number of seconds, or text such as `90s`, `15m`, `1h30m`. Raises ValueError."""
    if isinstance(value, bool):
        raise ValueError("a duration is a number of seconds or text such as 90s, 15m or 1h30m")
    if isinstance(value, int | float):
        seconds = float(value)
    else:
        text = str(value).strip()
        parts = _DURATION.findall(text)
        if "".join(number + unit for number, unit in parts) != text or not parts:
            raise ValueError(f"{text!r} is not a duration: write seconds, or text such as 90s, 15m or 1h30m")
        seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
    if not 0 <= seconds < 10**9:
        raise ValueError("a duration is neither negative nor longer than thirty years")
    return seconds


def parse_size(value: object) -> int:
    """Bytes of `value`: a number of bytes, or text such as `512MiB` or `70GiB`. Raises ValueError."""
    if isinstance(value, bool):
        raise ValueError("a size is a number of bytes or text such as 512MiB or 70GiB")
    if isinstance(value, int):
        size = value
    else:
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            raise ValueError(f"{value!r} is not a size: write bytes, or text such as 512MiB or 70GiB")
        size = round(float(match[1]) * _UNIT_BYTES[match[2].upper()])
    if size < 0:
        raise ValueError("a size is not negative")
    return size


def format_duration(seconds: float) -> str:
    """Short text for people: `0.4s`, `45s`, `3m20s`, `2h05m`, `20m`, `29d23h`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        (large, small), units = divmod(whole, 60), "ms"
    elif whole < 2 * 86400:
        (large, small), units = divmod(whole // 60, 60), "hm"
    else:
        (large, small), units = divmod(whole // 3600, 24), "dh"
    return f"{large}{units[0]}" + (f"{small:02d}{units[1]}" if small else "")


def format_size(size: float) -> str:
    """Short text for people: `512 MiB`, `70.0 GiB`."""
    if size < 2**30:
        return f"{size / 2**20:.0f} MiB"
    return f"{size / 2**30:.1f} GiB"


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}], "examples": ["15m", 90]}),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}], "examples": ["70GiB"]}),
]
