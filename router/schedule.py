"""`general_settings.lifecycle.schedules`: when a model is prewarmed, in cron's syntax.

croniter is asked with a given moment only: nothing here reads a clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Annotated
from zoneinfo import ZoneInfo

from croniter import croniter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from router.quantities import Duration

_SHAPE = "write five fields (minute, hour, day of the month, month, day of the week), such as 0 7 * * mon-fri"
#: Any moment will do to see whether an expression ever fires.
_SOME_DAY = datetime(2000, 1, 1, tzinfo=UTC)


def parse_cron(value: object) -> str:
    """The expression, as it is written: five fields, or a name such as @daily. Raises ValueError, also for one that
    never fires."""
    text = str(value).strip()
    if not isinstance(value, str) or any(field[0] in "rR" for field in text.split()):  # croniter's random fields
        raise ValueError(f"{text!r} is not a cron expression: {_SHAPE}")
    try:
        fields, _ = croniter.expand(text)
        croniter(text, _SOME_DAY).get_next(datetime)
    except ValueError as error:
        raise ValueError(f"{text!r} cannot be used as a cron expression ({error}): {_SHAPE}") from error
    if len(fields) != 5:
        raise ValueError(f"{text!r} has fields for seconds or years: {_SHAPE}")
    return text


def parse_timezone(value: object) -> str:
    """The name of a time zone that is known here. Raises ValueError."""
    name = str(value)
    try:
        _zone(name)
    except (KeyError, ValueError, OSError) as error:  # also a directory's name, or one that leads elsewhere
        raise ValueError(f"{name!r} is not a time zone known here: write UTC, or a name such as Asia/Tokyo") from error
    return name


class Schedule(BaseModel):
    """One entry: a model, when it is prewarmed, and for how long (s) it is then kept warm."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(description="The model's name.")
    cron: Annotated[str, BeforeValidator(parse_cron)] = Field(
        description="When it is prewarmed: minute, hour, day of the month, month, day of the week; `0 7 * * mon-fri`."
    )
    duration: Duration = Field(alias="for", gt=0, description="How long it is kept warm, from then.")
    timezone: Annotated[str, BeforeValidator(parse_timezone)] = Field(
        "UTC", description="The time zone of `cron`, such as `Europe/Vienna`."
    )


def fires(cron: str, timezone: str, now: float) -> tuple[float, float]:
    """The last time at or before `now` at which the expression fires, and the next one after it; unix seconds, as `now`
    is. A time that a change of the clocks leaves out fires at the change, and one that comes twice fires twice."""
    return _fires(cron, timezone, int(now // 60))


@lru_cache(maxsize=256)  # between two minutes nothing changes, and the controller asks many times a second
def _fires(cron: str, timezone: str, minute: int) -> tuple[float, float]:
    zone = _zone(timezone)
    this, after = (datetime.fromtimestamp(60 * each, zone) for each in (minute, minute + 1))
    last: datetime = croniter(cron, after).get_prev(datetime)
    following: datetime = croniter(cron, this).get_next(datetime)
    return last.timestamp(), following.timestamp()


def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)  # not every machine has the database of time zones
