"""The environment of the router and the gateway: what makes no sense is said in one line, and nothing secret in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from router import environment
from router.config_schema import manual
from router.environment import Environment
from router.errors import ConfigError

LISTEN = "127.0.0.1:8010"


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "REDIS_URL", "LISTEN", "ROUTER_URL", "STATE_DIR", "LOG_FORMAT", "LOG_LEVEL"):
        monkeypatch.delenv(f"HEARTH_{name}", raising=False)


def test_every_variable_is_documented_with_its_default() -> None:
    source = Path(environment.__file__).read_text(encoding="utf-8")
    rows = {row.split("`")[1]: row for row in manual().splitlines() if row.startswith("| `HEARTH_")}
    assert set(re.findall(r"HEARTH_[A-Z_]+", source)) == rows.keys()
    bare = Environment.read(LISTEN)
    for value in (bare.config, bare.redis_url, LISTEN, bare.router_url, bare.state_dir, bare.log_format):
        assert any(f"`{value}`" in row for row in rows.values()), value


def test_what_is_empty_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = Environment.read(LISTEN)
    for name in ("CONFIG", "REDIS_URL", "LISTEN", "ROUTER_URL", "STATE_DIR"):
        monkeypatch.setenv(f"HEARTH_{name}", "")
    assert Environment.read(LISTEN) == bare
    assert bare.config == Path("litellm_config.yaml")


@pytest.mark.parametrize(("name", "address"), [
    ("HEARTH_REDIS_URL", "unix:///run/hearth/redis.sock"),
    ("HEARTH_REDIS_URL", "rediss://:secret@redis.example:6380/1"),
    ("HEARTH_ROUTER_URL", "unix:///run/hearth/router.sock"),
    ("HEARTH_ROUTER_URL", "http://[::1]:8010"),
])  # fmt: skip
def test_addresses(monkeypatch: pytest.MonkeyPatch, name: str, address: str) -> None:
    monkeypatch.setenv(name, address)
    found = Environment.read(LISTEN)
    assert address in (found.redis_url, found.router_url)


@pytest.mark.parametrize("name", ["HEARTH_REDIS_URL", "HEARTH_ROUTER_URL"])
@pytest.mark.parametrize("address", [
    "localhost:6379", "ftp://host", "redis://:secret@host:port/0", "http://host:0", "http://[::1", "unix://", "redis://",
])  # fmt: skip
def test_what_is_no_address_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str, address: str) -> None:
    monkeypatch.setenv(name, address)
    with pytest.raises(ConfigError, match=f"^{name} is no address that can be used: write ") as caught:
        Environment.read(LISTEN)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("listen", ["8009", "host:", "host:port", "http://host:1/"])
def test_where_to_listen(monkeypatch: pytest.MonkeyPatch, listen: str) -> None:
    monkeypatch.setenv("HEARTH_LISTEN", listen)
    with pytest.raises(ConfigError, match=r"^HEARTH_LISTEN: .* is not an address: write HOST:PORT or unix:///PATH"):
        Environment.read(LISTEN)
