"""One stack with a database for all of this tier: Postgres, a gateway on it, the router, and simulated engines."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "e2e"))

from observer import Observer
from postgres_server import PostgresServer, generate_client, programs
from stack import Model, Stack

ENGINE = Path(__file__).parents[1] / "environment" / "prisma_engine.js"

MODELS = [
    Model("small"),
    Model("other"),
    Model("slow", tokens_per_second=10),
    Model("priced", info={"input_cost_per_token": 0.01, "output_cost_per_token": 0.01}),
    Model("left", gpu="1", memory="60GiB", lifecycle={"stop_timeout": "2s"}),
]


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PostgresServer, Path]]:
    """A Postgres with LiteLLM's tables, and where Prisma's client for them is."""
    bin_directory = programs()
    if bin_directory is None or not os.environ.get("HEARTH_TEST_PRISMA"):
        pytest.skip("there is no Postgres or no Prisma here (tests/environment/prepare installs both)")
    directory = Path(tempfile.mkdtemp(prefix="hearth-"))  # the server's user may not pass through pytest's own
    server, client = PostgresServer(directory, bin_directory), tmp_path_factory.mktemp("client")
    try:
        with ThreadPoolExecutor() as beside:
            generated = beside.submit(generate_client, client, ENGINE, Path(os.environ["HEARTH_TEST_PRISMA"]))
            server.start()
            server.migrate()
            generated.result()
        yield server, client
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(database: tuple[PostgresServer, Path]) -> PostgresServer:
    return database[0]


@pytest.fixture(scope="session")
def stack(database: tuple[PostgresServer, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole, with LiteLLM's own keys."""
    postgres, client = database
    with Stack(
        tmp_path_factory.mktemp("stack"),
        MODELS,
        gpus={"0": {"memory": "100GiB"}, "1": {"memory": "100GiB"}},
        settings={"keepalive_interval": "300ms", "idle_timeout": "1h"},
        extra={"general_settings": {"proxy_batch_write_at": 1}},
        environment={
            "DATABASE_URL": postgres.url,
            "STORE_MODEL_IN_DB": "True",
            "LITELLM_SALT_KEY": "sk-salt-5f0c3b9e71",
            "PATH": os.pathsep.join([os.environ["HEARTH_TEST_PRISMA"] + "/bin", os.environ["PATH"]]),  # its Node
            "PYTHONPATH": str(client),
            "PRISMA_QUERY_ENGINE_BINARY": str(ENGINE),
            "HEARTH_TEST_PRISMA": os.environ["HEARTH_TEST_PRISMA"],
        },
    ) as stack:
        yield stack


@pytest.fixture
async def hearth(stack: Stack) -> AsyncIterator[Observer]:
    """The stack as this test sees it. Afterwards nothing of the test's requests is left."""
    async with Observer(stack) as observer:
        yield observer
        await observer.until_no_requests()
        for name in stack.models:
            stack.set_options(name)
