"""Durations and sizes as people write them."""

from typing import Any

import pytest

from router.quantities import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("1h30m", 5400), ("250ms", 0.25), ("1.5h", 5400), (" 2d ", 172800), (7, 7), (0.5, 0.5),
     ("1m30s500ms", 90.5), (0, 0)],
)  # fmt: skip
def test_duration_is_read(text: Any, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "90", "fast", "5 m", "-5s", "1h-30m", "m", "1e3s", "5y", -1, True, float("nan"), float("inf"), None]
)
def test_duration_that_makes_no_sense_is_refused(text: Any) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("70GiB", 70 * 2**30), ("512MiB", 2**29), ("1.5 GB", 1_500_000_000), ("10b", 10), ("2tib", 2**41), (123, 123)],
)
def test_size_is_read(text: Any, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "70", "70G", "GiB", "-1GiB", -1, 1.5, True, None, "1,5GiB", "70 Gi B"])
def test_size_that_makes_no_sense_is_refused(text: Any) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.44, "0.4s"), (45.2, "45s"), (59.7, "1m"), (200, "3m20s"), (7500, "2h05m"),
     (172_799, "47h59m"), (30 * 86400 - 1, "29d23h"), (2 * 86400, "2d")],
)  # fmt: skip
def test_duration_is_written_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(2**29, "512 MiB"), (70 * 2**30, "70.0 GiB"), (0, "0 MiB")])
def test_size_is_written_for_people(size: int, text: str) -> None:
    assert format_size(size) == text
