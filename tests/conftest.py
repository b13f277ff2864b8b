"""Fixtures for all tiers, the marker of each directory, and the rule that in CI nothing is skipped."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else its import asks the network, and says so on stderr later

hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one is slow, and not wrong
hypothesis.settings.load_profile("any machine")

pytest.register_assert_rewrite("runtime_contract", "fleet", "eventually")

from redis_server import RedisServer  # noqa: E402 - after the rewrite is registered

TIERS = ("unit", "store", "docker", "vllm", "e2e", "browser", "database", "compose", "monitoring", "chaos", "clients")
CONTAINERS = ("compose/", "docker/", "vllm/")
_skipped: dict[str, str] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        tier = item.path.relative_to(here).parts[0]
        if tier in TIERS:
            item.add_marker(tier)


class OneFileOneProcess(LoadScopeScheduling):
    """A file's tests stay together, and what runs engines in containers does so one file after the other. The files of
    the database's tier share one stack."""

    def _split_scope(self, nodeid: str) -> str:
        path, _, _ = nodeid.partition("::")
        place = path.removeprefix("tests/")
        if place.startswith("database/"):
            return "database"
        return "containers" if place.startswith(CONTAINERS) else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return OneFileOneProcess(config, log)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skipped[report.nodeid] = reason


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skipped[report.nodeid] = reason


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _skipped.update(node.workeroutput["skipped"])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["skipped"] = _skipped  # a whole file that is skipped is known only to the process that wanted to run it
    if os.environ.get("HEARTH_TEST_REQUIRE_ALL") == "1" and _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if os.environ.get("HEARTH_TEST_REQUIRE_ALL") == "1" and _skipped:
        terminalreporter.section("HEARTH_TEST_REQUIRE_ALL=1: these tests were skipped, so the run fails", red=True)
        for test, reason in _skipped.items():
            terminalreporter.line(f"{test}: {reason}")


@pytest.fixture(scope="session")
def session_redis() -> Iterator[RedisServer]:
    # a unix socket's path has about a hundred characters at most, and pytest's own directories are longer
    directory = Path(tempfile.mkdtemp(prefix="hearth-"))
    server = RedisServer(directory)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def redis_server(session_redis: RedisServer) -> Iterator[RedisServer]:
    """The run's private Redis, empty; a test may kill it and start it again."""
    session_redis.make_fresh()
    yield session_redis
    session_redis.thaw()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url
