"""One machine with containers for all tests of the whole stack: its gateway takes long to start."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# the whole stack of processes is described once, for the end-to-end tests
sys.path.append(str(Path(__file__).parents[1] / "e2e"))

from llama_fleet import reason_without_llama
from llama_machine import Machine, running


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """All its models are asleep before a test and after it."""
    if reason := reason_without_llama():
        pytest.skip(reason)
    with running(tmp_path_factory.mktemp("stack"), tmp_path_factory.mktemp("gate")) as machine:
        yield machine
