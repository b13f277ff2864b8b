"""How long requests are: pairs of context and generated tokens, from a trace or from the few that are built in."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Final

Lengths = Sequence[tuple[int, int]]

_COLUMNS: Final = ("ContextTokens", "GeneratedTokens")
#: A number of tokens has no more of them.
_DIGITS: Final = 12
#: For when there is no trace: six lengths in, six out, each of the 36 pairs as likely as any other. They are quantiles
#: of log-normal distributions, since lengths of conversations are that skewed, with medians of 800 and 150 tokens and
#: deviations (of the logarithm) of 0.95 and 0.8: the means, 1,130 and 190, are near those of Azure's public trace of
#: conversations of 2023 (1,155 and 211).
BUILT_IN: Final = tuple(product((215, 420, 655, 975, 1520, 2975), (50, 87, 127, 177, 257, 454)))


def read_trace(path: Path) -> list[tuple[int, int]]:
    """Context and generated tokens of each request of a CSV file with those columns, others are left alone.
    Raises OSError, and ValueError with one line that says what is wrong."""
    found: list[tuple[int, int]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            columns = rows.fieldnames or []
            if missing := [name for name in _COLUMNS if name not in columns]:
                there = ", ".join(columns) or "none"
                raise ValueError(f"{path}: has no column {' and no column '.join(missing)}; its columns: {there}")
            found.extend(_lengths(path, rows.line_num, row) for row in rows)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: is not CSV: {error}") from error
    if not found:
        raise ValueError(f"{path}: has no requests")
    return found


def _lengths(path: Path, line: int, row: dict[str, str | None]) -> tuple[int, int]:
    values: list[int] = []
    for name in _COLUMNS:
        text = (row[name] or "").strip()
        if not text.isdecimal() or len(text) > _DIGITS:
            raise ValueError(f"{path}: line {line}: {name}: {text[:40]!r} is not a number of tokens")
        values.append(int(text))
    return values[0], values[1]
