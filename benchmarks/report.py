"""Write the results in benchmarks/results/ into the tables of docs/performance.md. `python -m benchmarks.report`

A table stands between `<!-- result: NAME -->` and `<!-- end -->`; the text around it is written by hand.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from benchmarks.outcome import RESULTS, Outcome
from benchmarks.processes import ROOT

_DOCUMENT = ROOT / "docs" / "performance.md"
_PLACE = re.compile(r"(<!-- result: (?P<name>\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_MARKS = {None: "", True: "met", False: "**missed**"}


def table(outcome: Outcome) -> str:
    """A result as a table of Markdown, with its date and where it was measured."""
    lines = ["| what | measured | goal | |", "|---|---|---|---|"]
    lines += [f"| {row.name} | {row.value} | {row.goal} | {_MARKS[row.met]} |" for row in outcome.rows]
    return "\n".join([*lines, "", f"Measured {outcome.date}: {outcome.environment}."])


def fill(text: str, results: Path) -> str:
    """`text` with the newest tables. Raises FileNotFoundError when a result that it names is not there."""

    def replaced(place: re.Match[str]) -> str:
        outcome = Outcome.read(results / f"{place['name']}.json")
        return f"{place[1]}{table(outcome)}\n{place[3]}"

    return _PLACE.sub(replaced, text)


def main() -> int:
    _DOCUMENT.write_text(fill(_DOCUMENT.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
