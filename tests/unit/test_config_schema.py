"""The page of all configuration keys has all of them, with the defaults as people write them."""

from __future__ import annotations

import pytest

from router.config_schema import json_schema, manual

SECTIONS = {name: part["properties"] for name, part in json_schema()["$defs"].items() if "properties" in part}


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_of_the_schema_has_its_table(name: str) -> None:
    tables = manual().split("\n## ")[1:]
    keys = [[row.split("`")[1] for row in table.splitlines() if row.startswith("| `")] for table in tables]
    assert list(SECTIONS[name]) in keys, f"no table in docs/configuration.md has the keys of {name}"


@pytest.mark.parametrize(
    "row", ["| `minimum_service` | `1m` |", "| `max_body` | `64 MiB` |", "| `idle_timeout` | `20m` |"]
)
def test_defaults_are_written_with_their_unit(row: str) -> None:
    assert row in manual()
