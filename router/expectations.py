"""What the router has told about waits: written for the gateway when it has changed noticeably."""

from __future__ import annotations

import math
from dataclasses import dataclass

from router.scheduling.decision import Snapshot
from router.scheduling.forecast import Outlook
from router.store.state import Phase

#: An expectation that is off by less than so many seconds, or by less than this share of it, is not written again.
_SLACK, _SLACK_SHARE = 1.0, 0.1
_ROUNDING = 1e-3


@dataclass(frozen=True, slots=True)
class Told:
    """One model's. Spans are seconds, moments seconds on the store's clock.

    fixed: `expected` is a moment and not a span. newcomers: the longest span for who asks from now on. line: the latest
    moment for those who joined the line by `newest`; None when nobody waits."""

    fixed: bool
    expected: float | None
    newcomers: float
    line: float | None
    newest: float

    def holds(self, current: Told, bearable: float) -> bool:
        """Whether this still is true enough: expected times within `bearable` seconds, limits not a moment too low."""
        if self.fixed is not current.fixed or self.newest < current.newest:
            return False
        return (
            _near(self.expected, current.expected, bearable, bearable)
            and _near(self.newcomers, current.newcomers, bearable, _ROUNDING)
            and _near(self.line, current.line, bearable, _ROUNDING)
        )

    def fields(self) -> dict[str, str | int]:
        """As the store keeps it, in ms (see place.lua)."""
        expected = "" if self.expected is None else round(self.expected * 1000)
        return {
            "expected_at": expected if self.fixed else "",
            "expected_in": "" if self.fixed else expected,
            "at_most_in": math.ceil(self.newcomers * 1000),
            "at_most_at": "" if self.line is None else math.ceil(self.line * 1000),
            "told_to": math.ceil(self.newest * 1000),
        }


class Expectations:
    """What all models' callers are told, as far as it is written."""

    def __init__(self) -> None:
        self._told: dict[str, Told] = {}

    def forget(self) -> None:
        """The store may have lost them: all are written again."""
        self._told.clear()

    def changes(self, snapshot: Snapshot, outlook: Outlook) -> dict[str, dict[str, str | int]]:
        """The fields to write now, by model."""
        now = snapshot.state.now
        newest = {request.model: request.joined for request in snapshot.state.line}
        changed: dict[str, dict[str, str | int]] = {}
        for name, seconds in outlook.expected.items():
            # for who waits it is a moment that comes nearer, for who may come it is a span
            fixed = name in newest or snapshot.state.models[name].phase is Phase.STARTING
            told = Told(
                fixed,
                None if seconds is None else seconds + now * fixed,
                outlook.at_most[name],
                now + outlook.waiting_at_most[name] if name in newest else None,
                newest.get(name, 0.0),
            )
            known = self._told.get(name)
            if known is None or not known.holds(told, max(_SLACK, _SLACK_SHARE * (seconds or 0.0))):
                self._told[name] = told
                changed[name] = told.fields()
        return changed


def _near(known: float | None, current: float | None, above: float, below: float) -> bool:
    """Whether a known number is at most so much above the current one, or below it."""
    if known is None or current is None:
        return known is current
    return current - below <= known <= current + above
