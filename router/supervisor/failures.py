"""Why the embedded server does not run, for the person who started it.

StartRefused   nothing was started; the message says what to change
PartFailed     one of its processes did not come up
"""

from __future__ import annotations

from router.errors import HearthError


class StartRefused(HearthError):
    """The server cannot be started here. The message says what is in the way and what to do."""


class PartFailed(HearthError):
    """A process ended, or was not usable in time, during the start. lines: the last ones of its log, oldest first."""

    def __init__(self, part: str, why: str, lines: tuple[str, ...]) -> None:
        super().__init__(f"{part} did not start: {why}")
        self.part = part
        self.lines = lines
